"""Small video files."""

import numpy as np

LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgr0"}
SMALL = {"codec": "mpeg4", "pix_fmt": "yuv420p"}


def make_frames(count, *, size=(48, 64), seed=0):
    """Different ``[H, W, 3]`` images of noise."""
    rng = np.random.default_rng(seed)
    return [*rng.integers(0, 256, (count, *size, 3), np.uint8)]


def write_video(path, frames, *, codec, pix_fmt, movflags=""):
    """Write ten frames per second into a file of the kind that its ending names."""
    import av

    with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn_video(path, matrix):
    """Write ``a b c d`` into the matrix of an MP4's track: x' = ax + cy, y' = bx + dy."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (int(value * 65536).to_bytes(4, "big", signed=True) for value in matrix)
    zero, one = bytes(4), (1 << 30).to_bytes(4, "big")
    data[start : start + 36] = b"".join((a, b, zero, c, d, zero, zero, zero, one))
    path.write_bytes(data)
