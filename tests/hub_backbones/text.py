"""Arguments of backbones for text."""

from tests.hub_backbones.sizes import DEPTH, LENGTH, VOCABULARY, WIDTH


def encoder(**more):
    return dict(
        vocabulary_size=VOCABULARY,
        num_layers=DEPTH,
        num_heads=2,
        hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH,
        dropout=0.0,
    ) | more


def _positioned(**more):
    return encoder(max_sequence_length=LENGTH, **more)


def _decoder(**more):
    return dict(
        vocabulary_size=VOCABULARY,
        num_layers=DEPTH,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH,
        dropout=0.0,
    ) | more


def gemma(**more):
    return _decoder(head_dim=4, **more)


def _experts(**more):
    return _decoder(num_experts=2, top_k=2, **more)


def _electra():
    arguments = _positioned(embedding_dim=WIDTH)
    arguments["vocab_size"] = arguments.pop("vocabulary_size")
    return arguments


def _falcon():
    arguments = encoder(attention_dropout_rate=0.0, feedforward_dropout_rate=0)
    arguments["num_attention_heads"] = arguments.pop("num_heads")
    del arguments["dropout"]
    return arguments


def _f_net():
    arguments = _positioned()
    del arguments["num_heads"]
    return arguments


def _t5_gemma():
    types = ["sliding_attention", "full_attention"] * (DEPTH // 2)
    arguments = dict(
        vocabulary_size=VOCABULARY,
        dropout_rate=0.0,
        attention_dropout=0.0,
        sliding_window=4,
        cross_attention_hidden_size=WIDTH,
    )
    for side in ("encoder", "decoder"):
        arguments |= {
            f"{side}_hidden_dim": WIDTH,
            f"{side}_intermediate_dim": 2 * WIDTH,
            f"{side}_num_layers": DEPTH,
            f"{side}_num_attention_heads": 4,
            f"{side}_num_key_value_heads": 2,
            f"{side}_head_dim": 4,
            f"{side}_layer_types": types,
        }
    return arguments


def _qwen3_5(**more):
    return _decoder(
        head_dim=8,
        layer_types=["linear_attention", "full_attention"] * (DEPTH // 2),
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=4,
        linear_value_head_dim=4,
        linear_conv_kernel_dim=2,
        **more,
    )


def _qwen3_5_moe():
    arguments = _qwen3_5(
        moe_intermediate_dim=WIDTH,
        shared_expert_intermediate_size=WIDTH,
        num_experts=2,
        top_k=2,
    )
    del arguments["intermediate_dim"]
    return arguments


def _gemma3n():
    return dict(
        text_vocab_size=VOCABULARY,
        text_hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        pad_token_id=0,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        intermediate_size=[2 * WIDTH] * DEPTH,
        hidden_activation="gelu_approximate",
        layer_types=["sliding_attention", "full_attention"] * (DEPTH // 2),
        sliding_window=4,
        rope_theta=10000.0,
        max_position_embeddings=LENGTH,
        vocab_size_per_layer_input=VOCABULARY,
        hidden_size_per_layer_input=4,
        altup_num_inputs=2,
        laurel_rank=2,
    )


ARGUMENTS = {
    "AlbertBackbone": lambda: _positioned(
        embedding_dim=WIDTH, num_groups=4, num_inner_repetitions=1
    ),
    "BartBackbone": _positioned,
    "BertBackbone": _positioned,
    "BloomBackbone": encoder,
    "DebertaV3Backbone": lambda: _positioned(bucket_size=8),
    "DistilBertBackbone": _positioned,
    "ESMBackbone": lambda: _positioned(use_pre_layer_norm=True),
    "EdRecBackbone": lambda: dict(
        vocab_size=VOCABULARY, num_layers_enc=DEPTH, num_layers_dec=DEPTH,
        hidden_dim=WIDTH, intermediate_dim=2 * WIDTH, num_heads=2,
    ),
    "ElectraBackbone": _electra,
    "FNetBackbone": _f_net,
    "FalconBackbone": _falcon,
    "GPT2Backbone": _positioned,
    "GPTNeoXBackbone": lambda: _positioned(rotary_percentage=0.5),
    "Gemma3Backbone": lambda: gemma(
        image_size=None, use_query_key_norm=True, use_post_ffw_norm=True,
        use_post_attention_norm=True, use_sliding_window_attention=True,
        sliding_window_size=4,
    ),
    "Gemma3nBackbone": _gemma3n,
    "Gemma4Backbone": lambda: gemma(image_size=None, sliding_window_size=4),
    "GemmaBackbone": gemma,
    "GptOssBackbone": lambda: _experts(sliding_window=4),
    "Llama3Backbone": _decoder,
    "LlamaBackbone": _decoder,
    "LlamaBackbone, tied": lambda: _decoder(tie_word_embeddings=True),
    "MistralBackbone": lambda: _decoder(sliding_window=4),
    "MixtralBackbone": lambda: _experts(sliding_window=4),
    "OPTBackbone": _positioned,
    "Phi3Backbone": _decoder,
    "Qwen3Backbone": lambda: _decoder(head_dim=4),
    "Qwen3MoeBackbone": lambda: _experts(
        head_dim=4, moe_intermediate_dim=WIDTH
    ),
    "Qwen3_5Backbone": _qwen3_5,
    "Qwen3_5MoeBackbone": _qwen3_5_moe,
    "QwenBackbone": _decoder,
    "QwenBackbone, untied": lambda: _decoder(tie_word_embeddings=False),
    "QwenMoeBackbone": lambda: _experts(
        moe_intermediate_dim=WIDTH, shared_expert_intermediate_dim=WIDTH
    ),
    "RWKV7Backbone": lambda: dict(
        hidden_size=WIDTH, head_size=4, num_layers=DEPTH,
        vocabulary_size=VOCABULARY, intermediate_dim=2 * WIDTH, gate_lora=4,
        mv_lora=4, aaa_lora=4, decay_lora=4,
    ),
    "RobertaBackbone": _positioned,
    "RoformerV2Backbone": lambda: encoder(head_size=4),
    "SmolLM3Backbone": lambda: dict(
        vocabulary_size=VOCABULARY, hidden_dim=WIDTH,
        intermediate_dim=2 * WIDTH, num_layers=DEPTH, num_attention_heads=2,
        num_key_value_heads=1, attention_bias=False, attention_dropout=0.0,
        rope_layer_enabled_list=[True, False] * (DEPTH // 2),
        layer_types=["attention"] * DEPTH, mlp_bias=False,
        layer_norm_epsilon=1e-5, max_position_embeddings=LENGTH,
        rope_theta=10000.0, partial_rotary_factor=1.0,
    ),
    "T5Backbone": encoder,
    "T5Backbone, untied": lambda: encoder(tie_embedding_weights=False),
    "T5Gemma2Backbone": _t5_gemma,
    "T5GemmaBackbone": _t5_gemma,
    "XLMRobertaBackbone": _positioned,
    "XLNetBackbone": encoder,
}
