"""The occlusion network, pair by pair, with its inputs really put side by side."""

import torch
import torch.nn.functional as F


def predict(head, features, masks, labels, pairs):
    """Logit of each ordered pair, one at a time, with one-hot categories."""
    logits = []
    for i, j in pairs.tolist():
        blocks = []
        for k in (i, j):
            if head.options.use_feature:
                blocks.append(features[k])
            if head.options.use_mask:
                blocks.append(F.max_pool2d(masks[k][None], 2))
        hidden = head.bias.clone()
        if blocks:
            weight, bias = head.first.weight, head.first.bias
            x = F.relu(F.conv2d(torch.cat(blocks)[None], weight, bias, padding=1))
            for layer in head.trunk:
                x = layer(x)
            hidden = hidden + x[0]
        if head.options.use_label:
            one_hot = torch.cat([F.one_hot(labels[k], head.num_things).float() for k in (i, j)])
            hidden = hidden + one_hot @ head.labels.flatten(0, 1)
        hidden = F.relu(head.fc2(F.relu(hidden)))
        logits.append(head.predictor(hidden)[0])
    return torch.stack(logits) if logits else torch.zeros(0)
