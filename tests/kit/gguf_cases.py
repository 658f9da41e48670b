"""Tiny files of every GGUF architecture, as llama.cpp's converter writes them, and what they are to be read as."""

from __future__ import annotations

from kit.gguf_cases_encoders import DENSE, ENCODERS, F
from kit.gguf_tiny import case

E, S, W = 24, 32, 8
"""Neurons of three experts, of three and a shared one, of one; F of a dense layer."""
MLA = {
    "attention.key_length": 12,
    "attention.value_length": 10,
    "attention.key_length_mla": 6,
    "attention.value_length_mla": 6,
    "attention.kv_lora_rank": 10,
    "rope.dimension_count": 2,
    "attention.head_count_kv": 1,
}
SHARED = {"expert_shared_count": 1}
LINEAR = "ATTN_NORM ATTN_QKV ATTN_GATE SSM_CONV1D SSM_DT SSM_A SSM_NORM SSM_OUT"
GATED_Q = {"ATTN_Q": (2 * 24, 24)}


CASES = [
    # Llama and its kin
    *(case(arch, "llama", DENSE, (F, F), permuted=True) for arch in ("xverse", "minicpm", "llada", "llama-embed")),
    case("granite", "llama", DENSE, (F, F), permuted=True, keys={"expert_count": 0}),
    case("seed_oss", "seed_oss", ["A ATTN_POST_NORM F"] * 2, (F, F)),
    case("orion", "orion", ["ATTN_NORM+b ATTN_Q ATTN_K ATTN_V ATTN_OUT FFN_NORM+b F"], (F,), facts={"norm": "layer"}),
    case("paddleocr", "llama_interleaved", DENSE, (F, F)),
    case("llama4", "llama4", ["A N F", "A N E S"], (F, S)),
    case(
        "deci",
        "deci",
        ["A N F", "N F", "A"],
        (F, 12, 0),
        silent=(1,),
        permuted=True,
        of_layer={1: {"f": 12}},
        keys={
            "attention.head_count": [4, 0, 4],
            "attention.head_count_kv": [2, 0, 2],
            "feed_forward_length": [20, 12, 0],
        },
    ),
    case("refact", "refact", DENSE, (F, F), changes={"g": 1}, facts={"position": "alibi"}),
    case("plamo", "plamo", ["A F"] * 2, (F, F), facts={"parallel": True}),
    case(
        "plamo3",
        "plamo3",
        ["QKV QK N ATTN_POST_NORM FFN_UP FFN_DOWN FFN_POST_NORM"] * 2,
        (F, F),
        shapes={"FFN_UP": (2 * F, 24)},
        keys={"attention.key_length": 6},
    ),
    case(
        "plamo2",
        "plamo2",
        [f"ATTN_NORM SSM_IN SSM_CONV1D SSM_X SSM_DT+b SSM_A SSM_D SSM_OUT {end}", f"QKV QK {end}"]
        if (end := "N ATTN_POST_NORM FFN_UP FFN_DOWN FFN_POST_NORM")
        else [],
        (F, F),
        silent=(0,),
        shapes={"FFN_UP": (2 * F, 24), "ATTN_Q_NORM": (4, 6), "ATTN_K_NORM": (2, 6)},
        keys={"attention.key_length": 6, "attention.head_count": [0, 4], "attention.head_count_kv": [0, 2]},
    ),
    case(
        "cogvlm",
        "cogvlm",
        ["QKV N F VISEXP_ATTN_QKV VISEXP_ATTN_OUT VISEXP_GATE VISEXP_UP VISEXP_DOWN"],
        (F,),
        changes={"g": 4},
    ),
    case(
        "chameleon",
        "chameleon",
        ["A ATTN_Q_NORM ATTN_K_NORM N F"] * 2,
        (F, F),
        keys={"swin_norm": False},
        shapes={"ATTN_Q_NORM": (4, 6), "ATTN_K_NORM": (2, 6)},
    ),
    case(
        "chameleon",
        "chameleon_swin",
        ["A ATTN_Q_NORM ATTN_K_NORM N F"] * 2,
        (F, F),
        keys={"swin_norm": True},
        shapes={"ATTN_Q_NORM": (4, 6), "ATTN_K_NORM": (2, 6)},
    ),
    # GPT-2's kin
    case(
        "codeshell",
        "codeshell",
        ["ATTN_NORM+b ATTN_QKV+b ATTN_OUT+b FFN_NORM+b FFN_UP+b FFN_DOWN+b"] * 2,
        (F, F),
        gated=False,
        facts={"norm": "layer"},
    ),
    case(
        "jais",
        "jais",
        ["ATTN_NORM+b ATTN_QKV+b ATTN_OUT+b FFN_NORM+b FFN_GATE+b FFN_UP+b FFN_DOWN+b"] * 2,
        (F, F),
        changes={"g": 4},
        keys={"attention.head_count_kv": None},
        facts={"position": "alibi"},
    ),
    # Qwen and its kin
    *(case(arch, "qwen2", ["A QK N F"] * 2, (F, F)) for arch in ("qwen3vl", "maincoder")),
    case("dream", "qwen2", ["ATTN_NORM ATTN_Q+b ATTN_K+b ATTN_V+b ATTN_OUT N F"] * 2, (F, F)),
    case("pangu-embedded", "qwen2", ["ATTN_NORM ATTN_Q+b ATTN_K+b ATTN_V+b ATTN_OUT+b N F"] * 2, (F, F)),
    *(case(arch, "qwen3_moe", ["A QK N E"] * 2, (E, E)) for arch in ("qwen3vlmoe", "rnd1", "llada-moe")),
    *(
        case(
            arch,
            "qwen3_next",
            [f"{LINEAR} ATTN_POST_NORM E FFN_GATE_INP_SHEXP S", "A QK ATTN_POST_NORM E FFN_GATE_INP_SHEXP S"],
            (S, S),
            silent=(0,),
            shapes=GATED_Q,
            keys={"expert_shared_feed_forward_length": 8, "feed_forward_length": None},
        )
        for arch in ("qwen3next", "qwen35moe")
    ),
    case(
        "qwen35moe",
        "qwen3_next",
        ["A QK ATTN_POST_NORM FFN_GATE_INP FFN_GATE_UP_EXP FFN_DOWN_EXP S"],
        (S,),
        shapes=GATED_Q,
        keys={"expert_shared_feed_forward_length": 8},
    ),
    case(
        "qwen35",
        "qwen3_5",
        [f"{LINEAR} ATTN_POST_NORM F", "A QK ATTN_POST_NORM F"],
        (F, F),
        silent=(0,),
        shapes=GATED_Q,
    ),
    case("grovemoe", "grovemoe", ["A QK N E FFN_GATE_CHEXP FFN_UP_CHEXP FFN_DOWN_CHEXP"], (E,)),
    # Mixtures
    case(
        "phimoe",
        "phimoe",
        ["ATTN_NORM+b ATTN_Q+b ATTN_K+b ATTN_V+b ATTN_OUT+b FFN_NORM+b E"] * 2,
        (E, E),
        whole="OUTPUT_NORM+b OUTPUT",
        keys={"feed_forward_length": W, "expert_feed_forward_length": None},
    ),
    case(
        "grok",
        "grok",
        ["A ATTN_OUT_NORM N E LAYER_OUT_NORM"] * 2,
        (E, E),
        keys={"feed_forward_length": W, "expert_feed_forward_length": None},
    ),
    case("grok", "grok", ["A ATTN_OUT_NORM N E F FFN_POST_NORM"] * 2, (E + F, E + F)),
    case(
        "dbrx",
        "dbrx",
        ["QKV ATTN_OUT_NORM E"] * 2,
        (E, E),
        facts={"norm": "layer"},
        keys={"feed_forward_length": W, "expert_feed_forward_length": None},
    ),
    case("arctic", "arctic", ["A N F FFN_NORM_EXP E"], (F,), permuted=True),
    case("smallthinker", "smallthinker", ["A N E"] * 2, (E, E)),
    case("hunyuan-moe", "hunyuan_v1_moe", ["A QK N E S"] * 2, (S, S), keys={"expert_shared_feed_forward_length": 8}),
    case("hunyuan_vl", "hunyuan_v1_dense", ["A QK N F"] * 2, (F, F)),
    case(
        "afmoe",
        "afmoe",
        [
            "A QK ATTN_GATE ATTN_POST_NORM N F FFN_POST_NORM",
            "A QK ATTN_GATE ATTN_POST_NORM N E FFN_EXP_PROBS_B S FFN_POST_NORM",
        ],
        (F, S),
        keys=SHARED,
    ),
    case("bailingmoe", "bailing_moe", ["A N E S"] * 2, (S, S), permuted=True, keys=SHARED),
    case(
        "bailingmoe2",
        "sarvam_moe",
        [
            "QKV QK N F",
            "QKV QK N E FFN_EXP_PROBS_B S",
            "QKV QK N E S NEXTN_EH_PROJ NEXTN_ENORM NEXTN_HNORM LAYER_OUT_NORM",
        ],
        (F, S),
        keys={**SHARED, "nextn_predict_layers": 1, "expert_shared_feed_forward_length": 8},
    ),
    *(
        case(arch, "glm4_moe", [f"A QK {norm} F", f"A QK {norm} E FFN_EXP_PROBS_B S", *nextn], (F, S), keys=keys)
        for arch, norm, nextn, keys in (
            (
                "exaone-moe",
                "N",
                ["A QK N F NEXTN_EH_PROJ NEXTN_ENORM NEXTN_HNORM"],
                {**SHARED, "nextn_predict_layers": 1},
            ),
            (
                "glm4moe",
                "ATTN_POST_NORM",
                ["A ATTN_POST_NORM E S NEXTN_EH_PROJ"],
                {**SHARED, "nextn_predict_layers": 1},
            ),
            ("dots1", "N", [], SHARED),
        )
    ),
    case(
        "mimo2",
        "mimo_v2_flash",
        ["A N F", "A ATTN_SINKS N E FFN_EXP_PROBS_B"],
        (F, E),
        changes={"u": 4},
        of_layer={1: {"g": 4}},
        keys={"attention.head_count_kv": [2, 4], "attention.key_length": 6, "attention.value_length": 4},
    ),
    case("deepseek", "deepseek", ["A N F", "A N E S"], (F, S), permuted=True, keys=SHARED),
    case("deepseek2-ocr", "deepseek_ocr", ["A N F", "A N E S"], (F, S), keys=SHARED, changes={"g": 4}),
    # Latent attention
    *(
        case(
            arch,
            family,
            ["MLA N F", f"MLA {more} N {experts} FFN_EXP_PROBS_B S", *nextn],
            (F, S),
            changes={"g": 4},
            keys={**MLA, **SHARED, "nextn_predict_layers": len(nextn)},
        )
        for arch, family, more, experts, nextn in (
            ("deepseek2", "deepseek_v3", "", "E", []),
            (
                "glm-dsa",
                "deepseek_v32",
                "INDEXER_K_NORM+b INDEXER_PROJ INDEXER_ATTN_K INDEXER_ATTN_Q_B",
                "E",
                ["MLA N E S NEXTN_EH_PROJ NEXTN_ENORM NEXTN_HNORM"],
            ),
            ("mistral4", "mistral4", "", "FFN_GATE_INP FFN_GATE_UP_EXP FFN_DOWN_EXP", []),
        )
    ),
    case(
        "deepseek2",
        "deepseek_v3",
        ["ATTN_NORM ATTN_Q ATTN_KV_A_MQA ATTN_KV_A_NORM ATTN_KV_B ATTN_OUT N F"],
        (F,),
        changes={"g": 4, "u": 5},
        keys={"attention.key_length": 6, "attention.value_length": 5, "rope.dimension_count": 2},
    ),
    case(
        "minicpm3",
        "minicpm3",
        ["ATTN_NORM ATTN_Q_A ATTN_Q_A_NORM ATTN_Q_B ATTN_KV_A_MQA ATTN_KV_A_NORM ATTN_KV_B ATTN_OUT N F"] * 2,
        (F, F),
        changes={"g": 4, "u": 5},
        keys={"attention.key_length": 6, "rope.dimension_count": 2},
    ),
    case(
        "plm",
        "plm",
        ["ATTN_NORM ATTN_Q ATTN_KV_A_MQA ATTN_KV_A_NORM ATTN_KV_B ATTN_OUT N U"] * 2,
        (F, F),
        changes={"g": 4},
        gated=False,
        keys={"attention.key_length": 6, "attention.value_length": 6, "rope.dimension_count": 2},
    ),
    case(
        "kimi-linear",
        "kimi_linear",
        [
            "A SSM_CONV1D_Q SSM_CONV1D_K SSM_CONV1D_V SSM_F_A SSM_F_B SSM_BETA SSM_A SSM_G_A SSM_G_B SSM_DT+b "
            "SSM_NORM "
            "N F",
            "ATTN_NORM ATTN_Q ATTN_KV_A_MQA ATTN_KV_A_NORM ATTN_K_B ATTN_V_B ATTN_OUT N E FFN_EXP_PROBS_B S",
        ],
        (F, S),
        silent=(0,),
        changes={"g": 4},
        keys={**MLA, **SHARED, "attention.head_count_kv": [0, 1]},
    ),
    # Hybrids
    case("falcon-h1", "falcon_h1", ["A SSM N F"] * 2, (F, F)),
    case(
        "jamba",
        "jamba",
        [
            "ATTN_NORM SSM_IN SSM_CONV1D SSM_X SSM_DT+b SSM_DT_NORM SSM_A SSM_B_NORM SSM_C_NORM SSM_D SSM_OUT N F",
            "A N E",
        ],
        (F, 60),
        silent=(0,),
        changes={"width": F},
        keys={"attention.head_count_kv": [0, 2], "expert_feed_forward_length": None},
    ),
    case(
        "granitehybrid",
        "granitemoehybrid",
        ["ATTN_NORM SSM N F", "A N F"],
        (F, F),
        silent=(0,),
        permuted=True,
        keys={"attention.head_count_kv": [0, 2], "expert_count": 0},
    ),
    case(
        "granitehybrid",
        "granitemoehybrid_sparse",
        ["ATTN_NORM SSM N E S", "A N E S"],
        (S, S),
        silent=(0,),
        permuted=True,
        keys={
            "attention.head_count_kv": [0, 2],
            "feed_forward_length": W,
            "expert_feed_forward_length": None,
            "expert_shared_feed_forward_length": 8,
        },
    ),
    case(
        "nemotron_h",
        "nemotron_h",
        ["ATTN_NORM SSM", "A", "ATTN_NORM U"],
        (0, 0, F),
        silent=(0, 2),
        permuted=True,
        gated=False,
        keys={"attention.head_count_kv": [0, 2, 0], "feed_forward_length": [0, 0, F], "attention.key_length": 6},
    ),
    case(
        "nemotron_h_moe",
        "nemotron_h",
        [
            "ATTN_NORM SSM",
            "A",
            "ATTN_NORM FFN_GATE_INP FFN_UP_EXP FFN_DOWN_EXP FFN_EXP_PROBS_B FFN_UP_SHEXP FFN_DOWN_SHEXP",
        ],
        (0, 0, S),
        silent=(0, 2),
        permuted=True,
        gated=False,
        keys={
            "attention.head_count_kv": [0, 2, 0],
            "feed_forward_length": [0, 0, W],
            "attention.key_length": 6,
            "expert_shared_feed_forward_length": 8,
        },
    ),
    case(
        "lfm2",
        "lfm2",
        ["ATTN_NORM SHORTCONV_CONV SHORTCONV_INPROJ SHORTCONV_OUTPROJ N F", "A QK N F"],
        (F, F),
        silent=(0,),
        whole="TOKEN_EMBD_NORM",
        keys={"attention.head_count_kv": [0, 2]},
    ),
    case(
        "lfm2moe",
        "lfm2_moe",
        ["ATTN_NORM SHORTCONV_CONV SHORTCONV_INPROJ SHORTCONV_OUTPROJ N F", "A QK N E FFN_EXP_PROBS_B"],
        (F, E),
        silent=(0,),
        whole="TOKEN_EMBD_NORM",
        keys={"attention.head_count_kv": [0, 2]},
    ),
    # Gemma
    case(
        "gemma-embedding",
        "gemma3",
        ["A QK N ATTN_POST_NORM F FFN_POST_NORM"] * 2,
        (F, F),
        whole="OUTPUT_NORM DENSE_2_OUT DENSE_3_OUT",
        keys={"attention.key_length": 6},
    ),
    case(
        "gemma3n",
        "gemma3n",
        [
            "A QK N ATTN_POST_NORM F FFN_POST_NORM PER_LAYER_INP_GATE PER_LAYER_PROJ "
            "PER_LAYER_POST_NORM ALTUP_CORRECT_COEF ALTUP_CORRECT_SCALE ALTUP_PREDICT_COEF "
            "ALTUP_ROUTER ALTUP_ROUTER_NORM LAUREL_L LAUREL_R LAUREL_POST_NORM"
        ]
        * 2,
        (F, F),
        whole="OUTPUT_NORM PER_LAYER_TOKEN_EMBD PER_LAYER_MODEL_PROJ PER_LAYER_PROJ_NORM ALTUP_PROJ "
        "ALTUP_UNEMBD_PROJ",
        keys={"attention.key_length": 6, "feed_forward_length": [F, F]},
    ),
    case(
        "gemma4",
        "gemma4",
        [
            "A QK N ATTN_POST_NORM F FFN_POST_NORM LAYER_OUT_SCALE",
            "ATTN_NORM ATTN_Q ATTN_K ATTN_OUT QK N ATTN_POST_NORM F FFN_POST_NORM",
            "ATTN_NORM ATTN_Q ATTN_OUT ATTN_Q_NORM N ATTN_POST_NORM F FFN_POST_NORM",
        ],
        (F, F, 2 * F),
        silent=(2,),
        whole="OUTPUT_NORM ROPE_FREQS",
        of_layer={1: {"e": 12, "u": 12, "g": 1}, 2: {"f": 2 * F}},
        keys={
            "attention.key_length": 12,
            "attention.key_length_swa": 6,
            "attention.head_count_kv": [2, 1, 2],
            "feed_forward_length": [F, F, 2 * F],
        },
    ),
    *ENCODERS,
    # Families that were there before
    case("arcee", "arcee", ["A N U"] * 2, (F, F), permuted=True, gated=False),
    case("apertus", "apertus", ["A QK N U"] * 2, (F, F), gated=False),
    case("nemotron", "nemotron", ["A N U"] * 2, (F, F), gated=False, facts={"norm": "layer"}),
    case("jais2", "jais2", ["A N U"] * 2, (F, F), gated=False, facts={"norm": "layer"}),
    case(
        "bitnet",
        "bitnet",
        ["A ATTN_SUB_NORM N F FFN_SUB_NORM"] * 2,
        (F, F),
        whole="OUTPUT_NORM",
        shapes={"FFN_SUB_NORM": (F,)},
    ),
    case("ernie4_5", "llama_interleaved", DENSE, (F, F)),
    case("ernie4_5-moe", "glm4_moe", ["A N F", "A N E FFN_EXP_PROBS_B S"], (F, S), keys=SHARED),
    case("exaone", "exaone", DENSE, (F, F)),
    case("exaone4", "olmo2", ["ATTN_Q ATTN_K ATTN_V ATTN_OUT QK ATTN_POST_NORM F FFN_POST_NORM"] * 2, (F, F)),
    case("granitemoe", "granitemoe", ["A N E"] * 2, (E, E), permuted=True),
    case("hunyuan-dense", "hunyuan_v1_dense", ["A QK N F"] * 2, (F, F)),
    case("qwen2vl", "qwen2", ["ATTN_NORM ATTN_Q+b ATTN_K+b ATTN_V+b ATTN_OUT N F"] * 2, (F, F)),
    case(
        "minimax-m2",
        "minimax_m2",
        ["A QK N E FFN_EXP_PROBS_B"] * 2,
        (E, E),
        shapes={"ATTN_Q_NORM": (24,), "ATTN_K_NORM": (12,)},
    ),
    case("gpt-oss", "gpt_oss", ["A ATTN_SINKS ATTN_POST_NORM E"] * 2, (E, E)),
]
