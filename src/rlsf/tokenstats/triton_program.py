"""What one program of the CUDA kernel computes: a block of rows against one part of the vocabulary.

Written in Triton, and so imported only where that is installed, by ``rlsf.tokenstats.triton_kernel``, which launches
it. Logits exist in registers only.
"""

from __future__ import annotations

import triton
import triton.language as tl

#: A logit that is not there: below every real one, and finite, so that the difference of two of them is defined.
MASKED = tl.constexpr(-1e30)
#: exp(x) = 2^(x log2 e), which Triton compiles to one instruction, unlike ``exp``, which keeps denormal results.
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["rows", "span"])
def parts_program(
    hidden, weight, bias, ids, above, reals, top1_ids, counts,
    rows, vocabulary, width, span, scale, softcap, hidden_stride, hidden_step, weight_stride, weight_step,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, DESCRIPTORS: tl.constexpr,
    BIAS: tl.constexpr, SOFTCAP: tl.constexpr, TOTAL: tl.constexpr, ABOVE: tl.constexpr,
):  # fmt: skip
    """Statistics of BLOCK_M rows over ``span`` tokens of the vocabulary: a column of ``VocabularyParts``.

    Program (i, s) takes the i-th block of rows and the s-th part. Programs that differ in i read the same weights at
    about the same time, hence from the cache. Writes ``reals`` [5 or 6, S, N] (top1, top2, excess, expectation, chosen
    and perhaps total), ``top1_ids`` [S, N] and ``counts`` [S, N]. A stride leads to the next row of a matrix, a step to
    the next column.
    """
    tl.assume(width > 0)
    row = tl.program_id(0) * BLOCK_M
    all_rows = row + tl.arange(0, BLOCK_M)
    inside = all_rows < rows
    own = tl.load(ids + all_rows, inside, other=-1).to(tl.int32)
    threshold = tl.maximum(tl.load(above + all_rows, inside, other=0.0), MASKED) if ABOVE else None
    first = tl.program_id(1) * span
    tokens = tl.arange(0, BLOCK_N)
    zeros = tl.zeros([BLOCK_M], tl.float32)
    mass, moment, total = zeros, zeros, zeros
    top1, top2, chosen = zeros + MASKED, zeros + MASKED, zeros + MASKED
    top1_id, count = tl.zeros([BLOCK_M], tl.int32), tl.zeros([BLOCK_M], tl.int32)
    # As one loop with that over the width, so that the first weights of a tile arrive while the last one is folded.
    for start in tl.range(first, tl.minimum(first + span, vocabulary), BLOCK_N, flatten=True):
        products = _products(
            hidden, weight, row, start, rows, vocabulary, width, hidden_stride, hidden_step, weight_stride, weight_step,
            BLOCK_M, BLOCK_N, BLOCK_K, DESCRIPTORS,
        )  # fmt: skip
        real = tokens < vocabulary - start
        shift = tl.load(bias + start + tokens, real, other=0.0).to(tl.float32) if BIAS else None
        logits = _finish(products, shift, scale, softcap, BIAS, SOFTCAP)
        if TOTAL:
            total += tl.sum(tl.where(real[None, :], logits, 0.0), 1)
        if BIAS:
            logits = tl.maximum(logits, MASKED)
        if start + BLOCK_N > vocabulary:
            logits = tl.where(real[None, :], logits, MASKED)
        mine = own - start
        chosen = _choose(logits, tokens, mine, chosen, BLOCK_N)
        if ABOVE:
            exceeds = (logits > threshold[:, None]) & (tokens[None, :] != mine[:, None])
            count += tl.sum(exceeds.to(tl.int32), 1)
        tile_top1, tile_top2, place = _top_two(logits, tokens, BLOCK_N)
        top1_id = tl.where(tile_top1 > top1, start + place, top1_id)
        top2 = tl.maximum(tl.minimum(top1, tile_top1), tl.maximum(top2, tile_top2))
        largest = tl.maximum(top1, tile_top1)
        mass, moment = _fold(logits, largest, top1, mass, moment)
        top1 = largest
    places = tl.program_id(1) * rows + all_rows
    size = tl.num_programs(1) * rows
    _store(reals + places, size, inside, top1, top2, mass, moment, chosen)
    tl.store(top1_ids + places, top1_id, inside)
    if TOTAL:
        tl.store(reals + 5 * size + places, total, inside)
    if ABOVE:
        tl.store(counts + places, count, inside)


@triton.jit
def _products(
    hidden, weight, row, start, rows, vocabulary, width, hidden_stride, hidden_step, weight_stride, weight_step,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, DESCRIPTORS: tl.constexpr,
):  # fmt: skip
    """h . w of BLOCK_M rows from ``row`` and BLOCK_N tokens from ``start``, accumulated in float32.

    ``hidden`` and ``weight`` are tensor descriptors, which yield zeros beyond the edges, or pointers: then the last row
    or token is repeated there. Offsets have 64 bits, because V d exceeds 2^31 in large models.
    """
    products = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    if not DESCRIPTORS:
        some_rows = tl.minimum(row + tl.arange(0, BLOCK_M), rows - 1).to(tl.int64)
        some_tokens = tl.minimum(start + tl.arange(0, BLOCK_N), vocabulary - 1).to(tl.int64)
        hidden += (some_rows * hidden_stride)[:, None]
        weight += (some_tokens * weight_stride)[:, None]
    for place in range(0, width, BLOCK_K):
        if DESCRIPTORS:
            states = hidden.load([row, place])
            weights = weight.load([start, place])
        else:
            places = (place + tl.arange(0, BLOCK_K))[None, :]
            states = tl.load(hidden + places.to(tl.int64) * hidden_step, places < width, other=0.0)
            weights = tl.load(weight + places.to(tl.int64) * weight_step, places < width, other=0.0)
        products = tl.dot(states, weights.to(states.dtype).T, products, input_precision="ieee")
    return products


@triton.jit
def _finish(products, bias, scale, softcap, BIAS: tl.constexpr, SOFTCAP: tl.constexpr):
    """Logits of products. Temperature and soft cap are in the factors: see ``triton_kernel._factors``.

    tanh(x) = 1 - 2 / (exp(2 x) + 1), whose absolute error of 1e-7 is that of a float32 next to 1.
    """
    if BIAS:
        products += bias[None, :]
    logits = products * scale
    if SOFTCAP:
        logits = softcap * (1.0 - 2.0 / (tl.exp2(logits * (2.0 * LOG2_E)) + 1.0))
    return logits


@triton.jit
def _choose(logits, tokens, mine, chosen, BLOCK_N: tl.constexpr):
    """The logit of a row's own token, at place ``mine``, or what was ``chosen`` before.

    Taken from those that are compared, it never exceeds the largest, and equals it where the token is on top. Few tiles
    hold the token of any row: the others are spared the search.
    """
    if tl.max(((mine >= 0) & (mine < BLOCK_N)).to(tl.int32), 0) > 0:
        chosen = tl.maximum(chosen, tl.max(tl.where(tokens[None, :] == mine[:, None], logits, MASKED), 1))
    return chosen


@triton.jit
def _top_two(logits, tokens, BLOCK_N: tl.constexpr):
    """The two largest logits of every row and the place of the first largest, the only one left out of the second."""
    top1 = tl.max(logits, 1)
    place = tl.min(tl.where(logits == top1[:, None], tokens[None, :], BLOCK_N), 1)
    top2 = tl.max(tl.where(tokens[None, :] == place[:, None], MASKED, logits), 1)
    return top1, top2, place


@triton.jit
def _fold(logits, largest, top1, mass, moment):
    """mass = sum exp(z - top1) and moment = sum exp(z - top1) (z - top1), with ``logits`` and from ``largest``."""
    lag = top1 - largest
    shrink = tl.exp2(lag * LOG2_E)
    distance = logits - largest[:, None]
    terms = tl.exp2(distance * LOG2_E)
    moment = shrink * (moment + lag * mass) + tl.sum(terms * distance, 1)
    return shrink * mass + tl.sum(terms, 1), moment


@triton.jit
def _store(reals, size, inside, top1, top2, mass, moment, chosen):
    """Write what is kept; sums are at least their largest term, but for the rounding of a fused multiplication."""
    tl.store(reals, _visible(top1), inside)
    tl.store(reals + size, _visible(top2), inside)
    tl.store(reals + 2 * size, tl.maximum(tl.log(mass), 0.0), inside)
    tl.store(reals + 3 * size, moment / mass, inside)
    tl.store(reals + 4 * size, _visible(chosen), inside)


@triton.jit
def _visible(logits):
    return tl.where(logits > MASKED / 2, logits, float("-inf"))
