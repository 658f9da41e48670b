"""Tiny GGUF files of encoders and of stacks of encoder-decoders, and what they are to be read as."""

from __future__ import annotations

from kit.gguf_tiny import NO_KV_HEADS, case, encoder

F = 20
"""Neurons of a dense layer."""
DENSE = ["A N F", "A N F"]
ENCODERS = [
    # Encoders
    encoder(
        "bert",
        "bert",
        ["ATTN_Q+b ATTN_K+b ATTN_V+b ATTN_OUT+b ATTN_OUT_NORM+b FFN_UP+b FFN_DOWN+b LAYER_OUT_NORM+b"] * 2,
        (F, F),
        gated=False,
        whole="TOKEN_EMBD_NORM+b TOKEN_TYPES POS_EMBD CLS CLS_OUT",
    ),
    encoder("nomic-bert", "nomic_bert", ["ATTN_QKV ATTN_OUT ATTN_OUT_NORM+b F LAYER_OUT_NORM+b"] * 2, (F, F)),
    encoder(
        "nomic-bert-moe",
        "nomic_bert_moe",
        [
            "ATTN_QKV+b ATTN_OUT+b ATTN_OUT_NORM+b FFN_UP+b FFN_DOWN+b LAYER_OUT_NORM+b",
            "ATTN_QKV+b ATTN_OUT+b ATTN_OUT_NORM+b FFN_GATE_INP FFN_UP_EXP FFN_DOWN_EXP LAYER_OUT_NORM+b",
        ],
        (F, 60),
        gated=False,
        changes={"g": 4, "width": F},
        keys={**NO_KV_HEADS, "expert_feed_forward_length": None},
    ),
    encoder(
        "jina-bert-v2",
        "jina_v2",
        [
            "ATTN_Q+b ATTN_K+b ATTN_V+b ATTN_OUT+b ATTN_Q_NORM+b ATTN_K_NORM+b "
            "ATTN_OUT_NORM+b FFN_GATE FFN_UP FFN_DOWN+b LAYER_OUT_NORM+b"
        ]
        * 2,
        (F, F),
        shapes={"ATTN_Q_NORM": (24,), "ATTN_K_NORM": (24,)},
        facts={"position": "alibi"},
    ),
    encoder(
        "jina-bert-v3",
        "jina_v3",
        ["ATTN_QKV+b ATTN_OUT+b ATTN_OUT_NORM+b FFN_UP+b FFN_DOWN+b LAYER_OUT_NORM+b"] * 2,
        (F, F),
        gated=False,
    ),
    encoder(
        "modern-bert",
        "modernbert",
        ["ATTN_QKV ATTN_OUT N FFN_UP FFN_DOWN", "QKV N FFN_UP FFN_DOWN"],
        (F, F),
        whole="TOKEN_EMBD_NORM OUTPUT_NORM CLS+b",
        shapes={"FFN_UP": (2 * F, 24)},
    ),
    case("eurobert", "eurobert", DENSE, (F, F), whole="OUTPUT_NORM"),
    # Sequences
    *(
        case(
            "t5",
            "t5_decoder",
            [f"{_T5} {gate}"] * 2,
            (F, F),
            gated=bool(gate),
            whole="DEC_OUTPUT_NORM ENC_OUTPUT_NORM",
            changes={"g": 4},
            keys={"attention.head_count_kv": None, "attention.key_length": 6, "decoder_block_count": 2},
        )
        for gate in ("", "DEC_FFN_GATE")
        for _T5 in (
            "DEC_ATTN_NORM DEC_ATTN_Q DEC_ATTN_K DEC_ATTN_V DEC_ATTN_OUT DEC_ATTN_REL_B DEC_CROSS_ATTN_NORM "
            "DEC_CROSS_ATTN_Q DEC_CROSS_ATTN_K DEC_CROSS_ATTN_V DEC_CROSS_ATTN_OUT DEC_FFN_NORM DEC_FFN_UP "
            "DEC_FFN_DOWN ENC_ATTN_Q ENC_FFN_UP",
        )
    ),
    case(
        "t5encoder",
        "t5_encoder",
        [
            "ENC_ATTN_NORM ENC_ATTN_Q ENC_ATTN_K ENC_ATTN_V ENC_ATTN_OUT ENC_ATTN_REL_B "
            "ENC_FFN_NORM ENC_FFN_GATE ENC_FFN_UP ENC_FFN_DOWN"
        ]
        * 2,
        (F, F),
        whole="ENC_OUTPUT_NORM",
        changes={"g": 4},
        keys={"attention.head_count_kv": None, "attention.key_length": 6},
    ),
]
