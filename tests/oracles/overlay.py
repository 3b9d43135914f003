"""An overlay pixel by pixel: tinted with the colour of its segment, lighter on contours."""

import numpy as np


def tint(image, segment_map, colors, *, opacity, outlines):
    drawn = np.empty_like(image)
    for y, x in np.ndindex(segment_map.shape):
        here = segment_map[y, x]
        beside = (*segment_map[y, x + 1 : x + 2], *segment_map[y + 1 : y + 2, x])
        for channel in range(3):
            color = colors.get(int(here), colors[0])[channel]
            value = int(int(image[y, x, channel]) * (1 - opacity) + color * opacity)
            if outlines and any(other != here for other in beside):
                value = int(value * (1 - 0.7) + 255 * 0.7)
            drawn[y, x, channel] = value
    return drawn
