"""The network's steps in plain numpy and scipy, written down from the papers, to compare with."""

import numpy as np
import torch
from scipy import ndimage, special


def stir(module):
    """Random values for everything that starts at zero, one or a half."""
    for name, value in module.state_dict().items():
        if name.endswith("running_var") or name.endswith("temperature"):
            value.copy_(0.5 + torch.rand_like(value))
        elif value.is_floating_point():
            value.copy_(torch.randn_like(value) / max(1, value[0].numel()) ** 0.5)
    return module.eval()


def array(tensor):
    return tensor.detach().double().numpy()


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(array(actual), expected, rtol=tolerance, atol=tolerance)


# --- The same in numpy; x is (C, H, W) ------------------------------------------------------------


def np_sigmoid(x):
    return 1 / (1 + np.exp(-x))


def np_convolution(layer, x):
    """Convolution with zero border, groups 1 or one for each channel."""
    weight, out = array(layer.weight), []
    for index, kernels in enumerate(weight):
        sources = x if layer.groups == 1 else x[index : index + 1]
        pairs = zip(sources, kernels, strict=True)
        out.append(sum(ndimage.correlate(s, k, mode="constant") for s, k in pairs))
    bias = 0 if layer.bias is None else array(layer.bias)[:, None, None]
    return np.stack(out) + bias


def np_linear(layers, c):
    for layer in layers:
        c = array(layer.weight) @ c + array(layer.bias)
    return c


def np_two_convolutions(layers, x):
    return np_convolution(layers[2], np.maximum(np_convolution(layers[0], x), 0))


def np_norm(norm, x):
    out = np.empty_like(x)
    for row, column in np.ndindex(x.shape[1:]):
        pixel = x[:, row, column]
        scaled = (pixel - pixel.mean()) / np.sqrt(((pixel - pixel.mean()) ** 2).mean() + 1e-5)
        out[:, row, column] = array(norm.weight) * scaled + array(norm.bias)
    return out


def np_mdta(module, x):
    """Restormer, section 3.1, channel by channel."""
    channels, height, width = x.shape
    n, size = len(module.temperature), channels // len(module.temperature)
    q, k, v = np.split(np_convolution(module.qkv_local, np_convolution(module.qkv, x)), 3)
    out = np.empty((channels, height * width))
    for head in range(n):
        mine = slice(head * size, (head + 1) * size)
        qs, ks, vs = (t[mine].reshape(size, -1) for t in (q, k, v))
        for i in range(size):
            scores = np.empty(size)
            for j in range(size):
                cosine = (qs[i] * ks[j]).sum()
                cosine /= np.sqrt((qs[i] ** 2).sum()) * np.sqrt((ks[j] ** 2).sum())
                scores[j] = cosine * module.temperature[head, 0, 0].item()
            attention = np.exp(scores) / np.exp(scores).sum()
            out[head * size + i] = sum(a * value for a, value in zip(attention, vs, strict=True))
    return np_convolution(module.project, out.reshape(x.shape))


def np_gdfn(module, x):
    """Restormer, section 3.2; GELU through the error function."""
    both = np_convolution(module.local, np_convolution(module.expand, x))
    gate, value = np.split(both, 2)
    gate = gate * (1 + special.erf(gate / np.sqrt(2))) / 2
    return np_convolution(module.project, gate * value)


def np_sobel(x):
    """Horizontal and vertical, channel by channel."""
    return tuple(
        np.stack([ndimage.sobel(c, axis=axis, mode="nearest") for c in x]) for axis in (1, 0)
    )
