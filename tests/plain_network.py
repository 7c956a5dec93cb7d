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


def np_feature_extraction(layers, x):
    """Convolution, BatchNorm with its running statistics, LeakyReLU."""
    norm = layers[1]
    tensors = norm.running_mean, norm.running_var, norm.weight, norm.bias
    mean, variance, weight, bias = (array(t)[:, None, None] for t in tensors)
    y = (np_convolution(layers[0], x) - mean) / np.sqrt(variance + 1e-5) * weight + bias
    return np.where(y > 0, y, 0.2 * y)


def np_norm(norm, x):
    """Over the channels of each pixel."""
    weight, bias = (array(t)[:, None, None] for t in (norm.weight, norm.bias))
    centred = x - x.mean(axis=0)
    return weight * centred / np.sqrt((centred**2).mean(axis=0) + 1e-5) + bias


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


def np_blocks(blocks, x):
    for block in blocks:
        x = x + np_mdta(block.attention, np_norm(block.norm_attention, x))
        x = x + np_gdfn(block.feed_forward, np_norm(block.norm_feed_forward, x))
    return x


def np_injection(cii, f, c_ir, c_vi):
    """Equations 1 and 2."""
    w_i = array(cii.w_ir)
    semantic = np_linear(cii.adapter, w_i * c_ir + (1 - w_i) * c_vi)
    return f + np_sigmoid(np_two_convolutions(cii.sep, f)) * semantic[:, None, None]


def np_fusion(cff, f_ir, f_vi, c_ir, c_vi):
    """Equations 3 to 5."""
    w_i, w_v = np_linear(cff.ira, c_ir), np_linear(cff.via, c_vi)
    f_f = np.concatenate([w_i[:, None, None] * f_ir, w_v[:, None, None] * f_vi])
    g_x, g_y = np_sobel(f_f)
    return f_f + np_sigmoid(np_two_convolutions(cff.sawp, np.abs(g_x) + np.abs(g_y))) * f_f


def np_network(net, ir, vi, c_ir, c_vi):
    """(1, H, W), (3, H, W), (E,), (E,) → (1, H, W); Figure 1 of the paper, and its ablations."""
    # mean square of an entry is 1, whatever the encoder's scale
    c_ir, c_vi = (c / np.sqrt((c**2).mean()) for c in (c_ir, c_vi))
    maps = []
    for (first, second, blocks), image in ((net.ire, ir), (net.vie, vi)):
        f = np_feature_extraction(second, np_feature_extraction(first, image))
        maps.append(np_blocks(blocks, f))
    if net.config.use_cii:
        injections = net.cii_ir, net.cii_vi
        maps = [np_injection(*both, c_ir, c_vi) for both in zip(injections, maps, strict=True)]
    f = np_fusion(net.cff, *maps, c_ir, c_vi) if net.config.use_cff else np.concatenate(maps)
    blocks, layer, last, _ = net.decoder
    return np.tanh(np_convolution(last, np_feature_extraction(layer, np_blocks(blocks, f))))
