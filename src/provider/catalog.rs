//! Every provider that has a prefix in LiteLLM 1.109.1: one row each.
//!
//! The rows say what the adapters need: where a provider is, which variables hold its key, what
//! it serves, and which parameters it does not take. What a provider refuses is what LiteLLM
//! refuses for it, but for Mistral, Groq, xAI, Perplexity and the self-hosted servers, whose own
//! clients say otherwise. Recorded traffic shows providers that take what LiteLLM refuses, so
//! only the rows marked strict refuse by themselves.

use super::vendor::{Auth, Key, Serves, Vendor, Wire, like_openai};

/// The row of a prefix.
pub fn find(prefix: &str) -> Option<&'static Vendor> {
    VENDORS.binary_search_by(|vendor| vendor.prefix.cmp(prefix)).ok().and_then(|at| VENDORS.get(at))
}

/// Whether LiteLLM knows the prefix and Pillion does not speak its wire yet.
pub fn is_not_spoken(prefix: &str) -> Option<&'static str> {
    NOT_SPOKEN.binary_search(&prefix).ok().and_then(|at| NOT_SPOKEN.get(at)).copied()
}

/// The known prefix that `prefix` may be a slip for.
pub fn nearest(prefix: &str) -> Option<&'static str> {
    let spoken = VENDORS.iter().map(|vendor| (vendor.prefix, 0.01));
    let names = spoken.chain(NOT_SPOKEN.iter().map(|name| (*name, 0.0)));
    names
        .map(|(name, bonus)| {
            let is_part = name.starts_with(prefix) && prefix.len() > 3;
            let likeness = if is_part { 0.98 } else { strsim::jaro_winkler(prefix, name) };
            (likeness + bonus, name)
        })
        .filter(|(likeness, _)| *likeness > 0.84)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The rows that stand for a provider: without those that are another name for a shorter one's
/// address and key.
pub fn primary() -> impl Iterator<Item = &'static Vendor> {
    let is_other_name = |vendor: &Vendor| {
        VENDORS.iter().any(|other| {
            let same = other.base == vendor.base && other.key_env == vendor.key_env;
            same && !vendor.key_env.is_empty() && other.prefix.len() < vendor.prefix.len()
        })
    };
    VENDORS.iter().filter(move |vendor| !is_other_name(vendor))
}

/// All rows, sorted by prefix.
pub fn all() -> &'static [Vendor] {
    VENDORS
}

const EVERYTHING: Serves =
    Serves::CHAT.and(Serves::COMPLETIONS).and(Serves::EMBEDDINGS).and(Serves::RESPONSES);
const ANTHROPIC: Serves = Serves::CHAT.and(Serves::MESSAGES);

type Renames = &'static [(&'static str, &'static str)];
const MAX_TOKENS: Renames = &[("max_completion_tokens", "max_tokens")];
const MAX_COMPLETION_TOKENS: Renames = &[("max_tokens", "max_completion_tokens")];
const MISTRAL: Renames = &[("max_completion_tokens", "max_tokens"), ("seed", "random_seed")];

const REFUSED_A: &[&str] = &[
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "seed",
    "service_tier",
    "store",
    "top_logprobs",
];
const REFUSED_B: &[&str] = &[
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "service_tier",
    "store",
    "top_logprobs",
];
const REFUSED_C: &[&str] = &["logit_bias", "logprobs", "service_tier", "store", "top_logprobs"];
const REFUSED_D: &[&str] = &[
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "n",
    "presence_penalty",
    "prompt_cache_key",
    "seed",
    "service_tier",
    "store",
    "top_logprobs",
];

/// The rows, sorted by prefix.
static VENDORS: &[Vendor] = &[
    Vendor {
        key_env: &["ABLITERATION_API_KEY"],
        ..like_openai("abliteration", "https://api.abliteration.ai/v1")
    },
    Vendor {
        base_env: &["AI21_API_BASE"],
        key_env: &["AI21_API_KEY"],
        refuses: REFUSED_B,
        renames: MAX_TOKENS,
        ..like_openai("ai21", "https://api.ai21.com/studio/v1")
    },
    Vendor {
        base_env: &["AI21_API_BASE"],
        key_env: &["AI21_API_KEY"],
        refuses: REFUSED_B,
        renames: MAX_TOKENS,
        stream_options: false,
        ..like_openai("ai21_chat", "https://api.ai21.com/studio/v1")
    },
    Vendor {
        base_env: &["AIAND_API_BASE"],
        key_env: &["AIAND_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        ..like_openai("aiand", "https://api.aiand.com/v1")
    },
    Vendor {
        base_env: &["AIHUBMIX_API_BASE"],
        key_env: &["AIHUBMIX_API_KEY"],
        renames: MAX_TOKENS,
        developer: true,
        ..like_openai("aihubmix", "https://aihubmix.com/v1")
    },
    Vendor {
        base_env: &["AIML_API_BASE"],
        key_env: &["AIML_API_KEY"],
        renames: MAX_TOKENS,
        developer: true,
        ..like_openai("aiml", "https://api.aimlapi.com/v1")
    },
    Vendor {
        base_env: &["OPENAI_BASE_URL", "OPENAI_API_BASE"],
        key_env: &["OPENAI_API_KEY"],
        developer: true,
        ..like_openai("aiohttp_openai", "https://api.openai.com/v1")
    },
    Vendor {
        base_env: &["AMAZON_NOVA_API_BASE"],
        key_env: &["AMAZON_NOVA_API_KEY"],
        refuses: REFUSED_A,
        renames: MAX_TOKENS,
        ..like_openai("amazon_nova", "https://api.nova.amazon.com/v1")
    },
    Vendor {
        wire: Wire::Anthropic,
        base_env: &["ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"],
        key_env: &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"],
        auth: Auth::Anthropic,
        serves: ANTHROPIC,
        ..like_openai("anthropic", "https://api.anthropic.com")
    },
    Vendor {
        wire: Wire::Anthropic,
        base_env: &["ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"],
        key_env: &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"],
        auth: Auth::Anthropic,
        serves: ANTHROPIC,
        ..like_openai("anthropic_text", "https://api.anthropic.com")
    },
    Vendor {
        key_env: &["STIMA_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        renames: MAX_TOKENS,
        ..like_openai("apertis", "https://api.stima.tech/v1")
    },
    Vendor {
        key_env: &["ASSEMBLYAI_API_KEY"],
        ..like_openai("assemblyai", "https://llm-gateway.assemblyai.com/v1")
    },
    Vendor {
        wire: Wire::Azure,
        base_env: &["AZURE_API_BASE"],
        key_env: &["AZURE_API_KEY", "AZURE_OPENAI_API_KEY"],
        auth: Auth::Header("api-key"),
        serves: EVERYTHING,
        developer: true,
        ..like_openai("azure", "")
    },
    Vendor {
        wire: Wire::Azure,
        base_env: &["AZURE_AI_API_BASE"],
        key_env: &["AZURE_AI_API_KEY"],
        auth: Auth::Header("api-key"),
        serves: EVERYTHING,
        developer: true,
        ..like_openai("azure_ai", "")
    },
    Vendor {
        wire: Wire::Azure,
        base_env: &["AZURE_API_BASE"],
        key_env: &["AZURE_API_KEY", "AZURE_OPENAI_API_KEY"],
        auth: Auth::Header("api-key"),
        serves: EVERYTHING,
        developer: true,
        ..like_openai("azure_text", "")
    },
    Vendor {
        base_env: &["BASETEN_API_BASE"],
        key_env: &["BASETEN_API_KEY"],
        refuses: &[
            "logit_bias",
            "logprobs",
            "n",
            "parallel_tool_calls",
            "prompt_cache_key",
            "service_tier",
            "store",
            "top_logprobs",
        ],
        renames: MAX_TOKENS,
        ..like_openai("baseten", "https://inference.baseten.co/v1")
    },
    Vendor {
        base_env: &["BEDROCK_MANTLE_API_BASE"],
        key_env: &["BEDROCK_MANTLE_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        refuses: &["n"],
        renames: MAX_TOKENS,
        ..like_openai("bedrock_mantle", "https://bedrock-mantle.us-east-1.api.aws/v1")
    },
    Vendor {
        base_env: &["BIGMODEL_API_BASE"],
        key_env: &["BIGMODEL_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        refuses: REFUSED_A,
        renames: MAX_TOKENS,
        ..like_openai("bigmodel", "https://open.bigmodel.cn/api/paas/v4")
    },
    Vendor {
        base_env: &["CEREBRAS_API_BASE"],
        key_env: &["CEREBRAS_API_KEY"],
        refuses: &[
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "n",
            "parallel_tool_calls",
            "presence_penalty",
            "prompt_cache_key",
            "service_tier",
            "store",
            "top_logprobs",
        ],
        renames: MAX_TOKENS,
        stream_options: false,
        ..like_openai("cerebras", "https://api.cerebras.ai/v1")
    },
    Vendor {
        key_env: &["CHARITY_ENGINE_API_KEY"],
        renames: MAX_TOKENS,
        ..like_openai(
            "charity_engine",
            "https://api.charityengine.services/remotejobs/v2/inference",
        )
    },
    Vendor {
        key_env: &["CHUTES_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        renames: MAX_TOKENS,
        ..like_openai("chutes", "https://llm.chutes.ai/v1")
    },
    Vendor {
        key_env: &["CLARIFAI_API_KEY"],
        refuses: &[
            "logit_bias",
            "logprobs",
            "n",
            "parallel_tool_calls",
            "prompt_cache_key",
            "seed",
            "service_tier",
            "stop",
            "store",
            "top_logprobs",
        ],
        ..like_openai("clarifai", "https://api.clarifai.com/v2/ext/openai/v1")
    },
    Vendor {
        base_env: &["CLF_AI_GATEWAY_API_BASE"],
        key_env: &["CLF_AI_GATEWAY_API_KEY"],
        refuses: &["prompt_cache_key"],
        ..like_openai("clf_ai_gateway", "https://api.clfaigateway.dev/v1")
    },
    Vendor {
        base_env: &["CODESTRAL_API_BASE"],
        key_env: &["CODESTRAL_API_KEY"],
        refuses: REFUSED_C,
        renames: MISTRAL,
        stream_options: false,
        ignores: &["user"],
        ..like_openai("codestral", "https://codestral.mistral.ai/v1")
    },
    Vendor {
        base_env: &["COGNITION_API_BASE"],
        key_env: &["COGNITION_API_KEY"],
        ..like_openai("cognition", "https://api.cognition.ai/v1")
    },
    Vendor {
        base_env: &["COMETAPI_API_BASE"],
        key_env: &["COMETAPI_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        ..like_openai("cometapi", "https://api.cometapi.com/v1")
    },
    Vendor {
        key_env: &["COMPACTIFAI_API_KEY"],
        ..like_openai("compactifai", "https://api.compactif.ai/v1")
    },
    Vendor {
        base_env: &["CORALBRICKS_API_BASE"],
        key_env: &["CORALBRICKS_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        ..like_openai("coralbricks", "https://inference.coralbricks.ai/v1")
    },
    Vendor {
        base_env: &["CORTECS_API_BASE"],
        key_env: &["CORTECS_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        ..like_openai("cortecs", "https://api.cortecs.ai/v1")
    },
    Vendor {
        base_env: &["CRUSOE_API_BASE"],
        key_env: &["CRUSOE_API_KEY"],
        renames: MAX_TOKENS,
        developer: true,
        ..like_openai("crusoe", "https://api.inference.crusoecloud.com/v1")
    },
    Vendor {
        key: Key::Optional,
        serves: EVERYTHING,
        developer: true,
        ..like_openai("custom_openai", "")
    },
    Vendor {
        base_env: &["DARKBLOOM_API_BASE"],
        key_env: &["DARKBLOOM_API_KEY"],
        renames: MAX_TOKENS,
        ..like_openai("darkbloom", "https://api.darkbloom.dev/v1")
    },
    Vendor {
        base_env: &["DASHSCOPE_API_BASE"],
        key_env: &["DASHSCOPE_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS.and(Serves::EMBEDDINGS)),
        ..like_openai("dashscope", "https://dashscope.aliyuncs.com/compatible-mode/v1")
    },
    Vendor {
        base_env: &["DATAROBOT_ENDPOINT"],
        key_env: &["DATAROBOT_API_TOKEN"],
        chat_path: "/api/v2/genai/llmgw/chat/completions/",
        renames: MAX_TOKENS,
        ..like_openai("datarobot", "https://app.datarobot.com")
    },
    Vendor {
        base_env: &["DEEPINFRA_API_BASE"],
        key_env: &["DEEPINFRA_API_KEY"],
        refuses: &[
            "logprobs",
            "parallel_tool_calls",
            "prompt_cache_key",
            "seed",
            "service_tier",
            "store",
            "top_logprobs",
        ],
        renames: MAX_TOKENS,
        stream_options: false,
        ..like_openai("deepinfra", "https://api.deepinfra.com/v1/openai")
    },
    Vendor {
        base_env: &["DEEPSEEK_API_BASE"],
        key_env: &["DEEPSEEK_API_KEY"],
        ..like_openai("deepseek", "https://api.deepseek.com/beta")
    },
    Vendor {
        base_env: &["DOCKER_MODEL_RUNNER_API_BASE"],
        key_env: &["DOCKER_MODEL_RUNNER_API_KEY"],
        key: Key::Optional,
        serves: EVERYTHING,
        renames: MAX_TOKENS,
        ..like_openai("docker_model_runner", "http://localhost:22088/engines/llama.cpp")
    },
    Vendor {
        base_env: &["EDENAI_API_BASE"],
        key_env: &["EDENAI_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS.and(Serves::RESPONSES)),
        ..like_openai("edenai", "https://api.edenai.run/v3")
    },
    Vendor {
        base_env: &["EMPIRIOLABS_API_BASE"],
        key_env: &["EMPIRIOLABS_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        renames: MAX_TOKENS,
        developer: true,
        ..like_openai("empiriolabs", "https://api.empiriolabs.ai/v1")
    },
    Vendor {
        base_env: &["EMPOWER_API_BASE"],
        key_env: &["EMPOWER_API_KEY"],
        renames: MAX_TOKENS,
        ..like_openai("empower", "https://app.empower.dev/api/v1")
    },
    Vendor {
        base_env: &["FEATHERLESS_AI_API_BASE", "FEATHERLESS_API_BASE"],
        key_env: &["FEATHERLESS_AI_API_KEY", "FEATHERLESS_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        refuses: &["logprobs", "prompt_cache_key", "seed", "service_tier", "store", "top_logprobs"],
        renames: MAX_TOKENS,
        stream_options: false,
        ..like_openai("featherless_ai", "https://api.featherless.ai/v1")
    },
    Vendor {
        base_env: &["FIREWORKS_API_BASE"],
        key_env: &[
            "FIREWORKS_API_KEY",
            "FIREWORKS_AI_API_KEY",
            "FIREWORKSAI_API_KEY",
            "FIREWORKS_AI_TOKEN",
        ],
        serves: EVERYTHING,
        refuses: &["store"],
        renames: MAX_TOKENS,
        required_is_any: true,
        ..like_openai("fireworks_ai", "https://api.fireworks.ai/inference/v1")
    },
    Vendor {
        base_env: &["FRIENDLI_API_BASE"],
        key_env: &["FRIENDLIAI_API_KEY", "FRIENDLI_TOKEN"],
        renames: MAX_TOKENS,
        ..like_openai("friendliai", "https://api.friendli.ai/serverless/v1")
    },
    Vendor {
        base_env: &["GALADRIEL_API_BASE"],
        key_env: &["GALADRIEL_API_KEY"],
        renames: MAX_TOKENS,
        ..like_openai("galadriel", "https://api.galadriel.com/v1")
    },
    Vendor {
        base_env: &["GITHUB_API_BASE"],
        key_env: &["GITHUB_API_KEY"],
        renames: MAX_TOKENS,
        ..like_openai("github", "https://models.inference.ai.azure.com")
    },
    Vendor {
        key_env: &["GMI_API_KEY"],
        renames: MAX_TOKENS,
        developer: true,
        ..like_openai("gmi", "https://api.gmi-serving.com/v1")
    },
    Vendor {
        base_env: &["GRADIENT_AI_AGENT_ENDPOINT"],
        key_env: &["GRADIENT_AI_API_KEY"],
        refuses: &[
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "n",
            "presence_penalty",
            "prompt_cache_key",
            "seed",
            "service_tier",
            "stop",
            "store",
            "top_logprobs",
        ],
        ..like_openai("gradient_ai", "https://inference.do-ai.run/v1")
    },
    Vendor {
        base_env: &["GROQ_API_BASE"],
        key_env: &["GROQ_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        refuses: &["logit_bias", "logprobs", "top_logprobs"],
        renames: MAX_TOKENS,
        strict: true,
        ..like_openai("groq", "https://api.groq.com/openai/v1")
    },
    Vendor {
        key_env: &["HELICONE_API_KEY"],
        ..like_openai("helicone", "https://ai-gateway.helicone.ai")
    },
    Vendor {
        base_env: &["HEROKU_API_BASE"],
        key_env: &["HEROKU_API_KEY"],
        chat_path: "/v1/chat/completions",
        ..like_openai("heroku", "")
    },
    Vendor {
        base_env: &["HOSTED_VLLM_API_BASE"],
        key_env: &["HOSTED_VLLM_API_KEY"],
        key: Key::Optional,
        serves: EVERYTHING,
        ..like_openai("hosted_vllm", "")
    },
    Vendor {
        base_env: &["HOSTINGER_ROUTER_API_BASE"],
        key_env: &["HOSTINGER_ROUTER_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS.and(Serves::RESPONSES)),
        ..like_openai("hostinger_router", "https://router.hostinger.com/v1")
    },
    Vendor {
        base_env: &["HYPERBOLIC_API_BASE"],
        key_env: &["HYPERBOLIC_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        refuses: &[
            "logit_bias",
            "logprobs",
            "parallel_tool_calls",
            "prompt_cache_key",
            "service_tier",
            "store",
            "top_logprobs",
        ],
        stream_options: false,
        ..like_openai("hyperbolic", "https://api.hyperbolic.xyz/v1")
    },
    Vendor {
        base_env: &["INCEPTION_API_BASE"],
        key_env: &["INCEPTION_API_KEY"],
        refuses: REFUSED_A,
        renames: MAX_TOKENS,
        ..like_openai("inception", "https://api.inceptionlabs.ai/v1")
    },
    Vendor {
        base_env: &["INFERENCEAPIS_API_BASE"],
        key_env: &["INFERENCEAPIS_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        ..like_openai("inferenceapis", "https://api.inferenceapis.com/v1")
    },
    Vendor {
        base_env: &["INFINITY_API_BASE"],
        key_env: &["INFINITY_API_KEY"],
        serves: Serves::EMBEDDINGS,
        ..like_openai("infinity", "")
    },
    Vendor {
        base_env: &["JINA_AI_API_BASE"],
        key_env: &["JINA_AI_API_KEY", "JINA_API_KEY", "JINA_AI_TOKEN"],
        serves: Serves::EMBEDDINGS,
        ..like_openai("jina_ai", "https://api.jina.ai/v1")
    },
    Vendor { key_env: &["KYMA_API_KEY"], ..like_openai("kyma", "https://kymaapi.com/v1") },
    Vendor {
        base_env: &["LAMBDA_API_BASE"],
        key_env: &["LAMBDA_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        renames: MAX_TOKENS,
        ..like_openai("lambda_ai", "https://api.lambda.ai/v1")
    },
    Vendor {
        base_env: &["LEMONADE_API_BASE"],
        key_env: &["LEMONADE_API_KEY"],
        key: Key::Optional,
        serves: EVERYTHING,
        renames: MAX_TOKENS,
        developer: true,
        ..like_openai("lemonade", "http://localhost:8000/api/v1")
    },
    Vendor {
        base_env: &["LIBERTAI_API_BASE"],
        key_env: &["LIBERTAI_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        renames: MAX_TOKENS,
        ..like_openai("libertai", "https://api.libertai.io/v1")
    },
    Vendor {
        base_env: &["LITELLM_PROXY_API_BASE"],
        key_env: &["LITELLM_PROXY_API_KEY"],
        serves: EVERYTHING,
        developer: true,
        ..like_openai("litellm_proxy", "")
    },
    Vendor {
        base_env: &["LLAMAFILE_API_BASE"],
        key: Key::Optional,
        serves: EVERYTHING,
        ..like_openai("llamafile", "http://127.0.0.1:8080/v1")
    },
    Vendor {
        key_env: &["LLAMAGATE_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        renames: MAX_TOKENS,
        developer: true,
        ..like_openai("llamagate", "https://api.llamagate.dev/v1")
    },
    Vendor {
        base_env: &["LM_STUDIO_API_BASE"],
        key_env: &["LM_STUDIO_API_KEY"],
        key: Key::Optional,
        serves: EVERYTHING,
        ..like_openai("lm_studio", "")
    },
    Vendor {
        base_env: &["MARITALK_API_BASE"],
        key_env: &["MARITALK_API_KEY"],
        refuses: &[
            "logit_bias",
            "logprobs",
            "parallel_tool_calls",
            "prompt_cache_key",
            "seed",
            "service_tier",
            "store",
            "top_logprobs",
        ],
        ..like_openai("maritalk", "https://chat.maritaca.ai/api")
    },
    Vendor {
        base_env: &["META_API_BASE"],
        key_env: &["META_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        ..like_openai("meta", "https://api.meta.ai/v1")
    },
    Vendor {
        base_env: &["LLAMA_API_BASE"],
        key_env: &["LLAMA_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        ..like_openai("meta_llama", "https://api.llama.com/compat/v1")
    },
    Vendor {
        base_env: &["MINIMAX_API_BASE"],
        key_env: &["MINIMAX_API_KEY"],
        ..like_openai("minimax", "https://api.minimax.io/v1")
    },
    Vendor {
        base_env: &["MISTRAL_AZURE_API_BASE"],
        key_env: &["MISTRAL_AZURE_API_KEY", "MISTRAL_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        refuses: REFUSED_C,
        renames: MISTRAL,
        stream_options: false,
        ignores: &["user"],

        ..like_openai("mistral", "https://api.mistral.ai/v1")
    },
    Vendor {
        base_env: &["MODELSCOPE_API_BASE"],
        key_env: &["MODELSCOPE_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        ..like_openai("modelscope", "https://api-inference.modelscope.cn/v1")
    },
    Vendor {
        base_env: &["MOONSHOT_API_BASE"],
        key_env: &["MOONSHOT_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        renames: MAX_TOKENS,
        ..like_openai("moonshot", "https://api.moonshot.ai/v1")
    },
    Vendor {
        base_env: &["MORPH_API_BASE"],
        key_env: &["MORPH_API_KEY"],
        refuses: &["n", "service_tier", "store"],
        renames: MAX_TOKENS,
        ..like_openai("morph", "https://api.morphllm.com/v1")
    },
    Vendor {
        base_env: &["NADIR_API_BASE"],
        key_env: &["NADIR_API_KEY"],
        refuses: &[
            "logit_bias",
            "logprobs",
            "n",
            "prompt_cache_key",
            "seed",
            "service_tier",
            "stop",
            "store",
            "top_logprobs",
        ],
        stream_options: false,
        ..like_openai("nadir", "https://api.getnadir.com/v1")
    },
    Vendor {
        key_env: &["NANOGPT_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        renames: MAX_TOKENS,
        ..like_openai("nano-gpt", "https://nano-gpt.com/api/v1")
    },
    Vendor {
        base_env: &["NEBIUS_API_BASE"],
        key_env: &["NEBIUS_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS.and(Serves::EMBEDDINGS)),
        renames: MAX_TOKENS,
        ..like_openai("nebius", "https://api.studio.nebius.ai/v1")
    },
    Vendor {
        base_env: &["NEOSANTARA_API_BASE"],
        key_env: &["NEOSANTARA_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        renames: MAX_TOKENS,
        ..like_openai("neosantara", "https://api.neosantara.xyz/v1")
    },
    Vendor {
        base_env: &["NOVITA_API_BASE"],
        key_env: &["NOVITA_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        headers: &[("x-novita-source", "pillion")],
        ..like_openai("novita", "https://api.novita.ai/v3/openai")
    },
    Vendor {
        base_env: &["NSCALE_API_BASE"],
        key_env: &["NSCALE_API_KEY"],
        refuses: &["prompt_cache_key", "seed", "service_tier", "store"],
        stream_options: false,
        ..like_openai("nscale", "https://inference.api.nscale.com/v1")
    },
    Vendor {
        base_env: &["NVIDIA_NIM_API_BASE"],
        key_env: &["NVIDIA_NIM_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        refuses: &[
            "logit_bias",
            "logprobs",
            "n",
            "prompt_cache_key",
            "service_tier",
            "store",
            "top_logprobs",
        ],
        renames: MAX_TOKENS,
        stream_options: false,
        ..like_openai("nvidia_nim", "https://integrate.api.nvidia.com/v1")
    },
    Vendor {
        base_env: &["OLLAMA_API_BASE"],
        key_env: &["OLLAMA_API_KEY"],
        key: Key::Optional,
        serves: EVERYTHING,
        chat_path: "/v1/chat/completions",
        v1_paths: true,
        ..like_openai("ollama", "http://localhost:11434")
    },
    Vendor {
        base_env: &["OLLAMA_API_BASE"],
        key_env: &["OLLAMA_API_KEY"],
        key: Key::Optional,
        serves: EVERYTHING,
        chat_path: "/v1/chat/completions",
        v1_paths: true,
        ..like_openai("ollama_chat", "http://localhost:11434")
    },
    Vendor {
        key: Key::Optional,
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        chat_path: "/v1/chat/completions",
        ..like_openai("oobabooga", "")
    },
    Vendor {
        base_env: &["OPENAI_BASE_URL", "OPENAI_API_BASE"],
        key_env: &["OPENAI_API_KEY"],
        serves: EVERYTHING,
        developer: true,
        ..like_openai("openai", "https://api.openai.com/v1")
    },
    Vendor {
        base_env: &["OPENAI_LIKE_API_BASE"],
        key_env: &["OPENAI_LIKE_API_KEY"],
        serves: EVERYTHING,
        ..like_openai("openai_like", "")
    },
    Vendor {
        base_env: &["OPENCODE_GO_API_BASE"],
        key_env: &["OPENCODE_GO_API_KEY", "OPENCODE_API_KEY"],
        refuses: REFUSED_D,
        renames: MAX_TOKENS,
        ..like_openai("opencode_go", "https://opencode.ai/inference/go/openai/v1")
    },
    Vendor {
        base_env: &["OPENINFER_API_BASE"],
        key_env: &["OPENINFER_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        ..like_openai("openinfer", "https://api.openinfer.ai/v1")
    },
    Vendor {
        base_env: &["OPENROUTER_API_BASE"],
        key_env: &["OPENROUTER_API_KEY", "OR_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS.and(Serves::RESPONSES)),
        developer: true,
        ..like_openai("openrouter", "https://openrouter.ai/api/v1")
    },
    Vendor {
        base_env: &["OVHCLOUD_API_BASE"],
        key_env: &["OVHCLOUD_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        ..like_openai("ovhcloud", "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1")
    },
    Vendor {
        base_env: &["PARASAIL_API_BASE"],
        key_env: &["PARASAIL_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        ..like_openai("parasail", "https://api.parasail.io/v1")
    },
    Vendor {
        base_env: &["PERPLEXITY_API_BASE"],
        key_env: &["PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS.and(Serves::RESPONSES)),
        refuses: &[
            "logit_bias",
            "logprobs",
            "parallel_tool_calls",
            "seed",
            "service_tier",
            "stop",
            "store",
            "tool_choice",
            "tools",
            "top_logprobs",
        ],
        stream_options: false,
        strict: true,
        ..like_openai("perplexity", "https://api.perplexity.ai")
    },
    Vendor {
        base_env: &["PINSTRIPES_API_BASE"],
        key_env: &["PINSTRIPES_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        renames: MAX_TOKENS,
        ..like_openai("pinstripes", "https://pinstripes.io/v1")
    },
    Vendor {
        key_env: &["POE_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        renames: MAX_TOKENS,
        ..like_openai("poe", "https://api.poe.com/v1")
    },
    Vendor {
        base_env: &["PRISM_API_BASE"],
        key_env: &["PRISM_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        ..like_openai("prism", "https://api.prisminference.com/v1")
    },
    Vendor {
        base_env: &["PUBLICAI_API_BASE"],
        key_env: &["PUBLICAI_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        renames: MAX_TOKENS,
        ..like_openai("publicai", "https://api.publicai.co/v1")
    },
    Vendor {
        base_env: &["QWEN_AI_PLATFORM_API_BASE"],
        key_env: &["QWEN_AI_PLATFORM_API_KEY", "DASHSCOPE_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS.and(Serves::EMBEDDINGS)),
        ..like_openai("qwen_ai_platform", "https://dashscope.aliyuncs.com/compatible-mode/v1")
    },
    Vendor {
        base_env: &["QWENCLOUD_API_BASE"],
        key_env: &["QWENCLOUD_API_KEY", "DASHSCOPE_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS.and(Serves::EMBEDDINGS)),
        ..like_openai("qwencloud", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1")
    },
    Vendor {
        key_env: &["REFUSELESS_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        ..like_openai("refuseless", "https://api.refuseless.com/v1")
    },
    Vendor {
        base_env: &["REKA_API_BASE"],
        key_env: &["REKA_API_KEY"],
        ..like_openai("reka", "https://api.reka.ai/v1")
    },
    Vendor {
        base_env: &["SAIL_API_BASE"],
        key_env: &["SAIL_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        refuses: &[
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "presence_penalty",
            "seed",
            "stop",
            "top_logprobs",
        ],
        ..like_openai("sail", "https://api.sailresearch.com/v1")
    },
    Vendor {
        base_env: &["SAMBANOVA_API_BASE"],
        key_env: &["SAMBANOVA_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        refuses: REFUSED_D,
        renames: MAX_TOKENS,
        ..like_openai("sambanova", "https://api.sambanova.ai/v1")
    },
    Vendor {
        key_env: &["SARVAM_API_KEY"],
        renames: MAX_TOKENS,
        developer: true,
        ..like_openai("sarvam", "https://api.sarvam.ai/v1")
    },
    Vendor {
        key_env: &["SCW_SECRET_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        ..like_openai("scaleway", "https://api.scaleway.ai/v1")
    },
    Vendor {
        base_env: &["SCX_API_BASE"],
        key_env: &["SCX_API_KEY"],
        renames: MAX_TOKENS,
        ..like_openai("scx-ai", "https://api.scx.ai/v1")
    },
    Vendor {
        base_env: &["STREAMLAKE_API_BASE"],
        key_env: &["STREAMLAKE_API_KEY"],
        renames: MAX_COMPLETION_TOKENS,
        ..like_openai("streamlake", "https://vanchin.streamlake.ai/api/gateway/v1/endpoints")
    },
    Vendor {
        key_env: &["SYNTHETIC_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        renames: MAX_TOKENS,
        ..like_openai("synthetic", "https://api.synthetic.new/openai/v1")
    },
    Vendor {
        base_env: &["TENCENT_API_BASE"],
        key_env: &["TENCENT_API_KEY"],
        ..like_openai("tencent", "https://tokenhub-intl.tencentcloudmaas.com/v1")
    },
    Vendor {
        base_env: &["TENSORMESH_SERVERLESS_BASE_URL"],
        key_env: &["TENSORMESH_INFERENCE_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS.and(Serves::RESPONSES)),
        renames: MAX_TOKENS,
        ..like_openai("tensormesh", "https://serverless.tensormesh.ai/v1")
    },
    Vendor {
        key_env: &["CODESTRAL_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        completions_path: "/fim/completions",
        refuses: &[
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "n",
            "presence_penalty",
            "prompt_cache_key",
            "service_tier",
            "store",
            "top_logprobs",
        ],
        renames: MAX_TOKENS,
        stream_options: false,
        ..like_openai("text-completion-codestral", "https://codestral.mistral.ai/v1")
    },
    Vendor {
        base_env: &["INCEPTION_API_BASE"],
        key_env: &["INCEPTION_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        completions_path: "/fim/completions",
        refuses: &[
            "logit_bias",
            "logprobs",
            "n",
            "prompt_cache_key",
            "seed",
            "service_tier",
            "store",
            "top_logprobs",
        ],
        renames: MAX_TOKENS,
        ..like_openai("text-completion-inception", "https://api.inceptionlabs.ai/v1")
    },
    Vendor {
        base_env: &["OPENAI_BASE_URL", "OPENAI_API_BASE"],
        key_env: &["OPENAI_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS),
        completions_path: "/completions",
        developer: true,
        ..like_openai("text-completion-openai", "https://api.openai.com/v1")
    },
    Vendor {
        base_env: &["TOGETHER_AI_API_BASE"],
        key_env: &[
            "TOGETHER_API_KEY",
            "TOGETHER_AI_API_KEY",
            "TOGETHERAI_API_KEY",
            "TOGETHER_AI_TOKEN",
        ],
        serves: Serves::CHAT.and(Serves::COMPLETIONS.and(Serves::EMBEDDINGS)),
        ..like_openai("together_ai", "https://api.together.ai/v1")
    },
    Vendor {
        base_env: &["V0_API_BASE"],
        key_env: &["V0_API_KEY"],
        refuses: &[
            "frequency_penalty",
            "logit_bias",
            "logprobs",
            "n",
            "parallel_tool_calls",
            "presence_penalty",
            "prompt_cache_key",
            "seed",
            "service_tier",
            "stop",
            "store",
            "top_logprobs",
        ],
        stream_options: false,
        ..like_openai("v0", "https://api.v0.dev/v1")
    },
    Vendor {
        key_env: &["VENICE_AI_API_KEY"],
        renames: MAX_TOKENS,
        developer: true,
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        ..like_openai("veniceai", "https://api.venice.ai/api/v1")
    },
    Vendor {
        base_env: &["VERCEL_AI_GATEWAY_API_BASE"],
        key_env: &["VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS),
        ..like_openai("vercel_ai_gateway", "https://ai-gateway.vercel.sh/v1")
    },
    Vendor {
        base_env: &["VOLCENGINE_API_BASE"],
        key_env: &["VOLCENGINE_API_KEY"],
        serves: Serves::CHAT.and(Serves::EMBEDDINGS.and(Serves::RESPONSES)),
        refuses: &["parallel_tool_calls", "prompt_cache_key", "service_tier", "store"],
        renames: MAX_TOKENS,
        ..like_openai("volcengine", "https://ark.cn-beijing.volces.com/api/v3")
    },
    Vendor {
        base_env: &["VOYAGE_API_BASE"],
        key_env: &["VOYAGE_API_KEY", "VOYAGE_AI_API_KEY", "VOYAGE_AI_TOKEN"],
        serves: Serves::EMBEDDINGS,
        ..like_openai("voyage", "https://api.voyageai.com/v1")
    },
    Vendor {
        base_env: &["WANDB_API_BASE"],
        key_env: &["WANDB_API_KEY"],
        serves: Serves::CHAT.and(Serves::COMPLETIONS.and(Serves::EMBEDDINGS)),
        renames: MAX_TOKENS,
        ..like_openai("wandb", "https://api.inference.wandb.ai/v1")
    },
    Vendor {
        base_env: &["XAI_API_BASE"],
        key_env: &["XAI_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        refuses: &["frequency_penalty", "stop", "store"],

        ..like_openai("xai", "https://api.x.ai/v1")
    },
    Vendor {
        key_env: &["XIAOMI_MIMO_API_KEY"],
        renames: MAX_TOKENS,
        ..like_openai("xiaomi_mimo", "https://api.xiaomimimo.com/v1")
    },
    Vendor {
        base_env: &["XINFERENCE_API_BASE"],
        key_env: &["XINFERENCE_API_KEY"],
        key: Key::Optional,
        serves: EVERYTHING,
        renames: MAX_TOKENS,
        developer: true,
        ..like_openai("xinference", "http://127.0.0.1:9997/v1")
    },
    Vendor {
        base_env: &["ZAI_API_BASE"],
        key_env: &["ZAI_API_KEY"],
        refuses: REFUSED_A,
        renames: MAX_TOKENS,
        ..like_openai("zai", "https://api.z.ai/api/paas/v4")
    },
    Vendor {
        base_env: &["ZEROGPU_API_BASE"],
        key_env: &["ZEROGPU_API_KEY"],
        serves: Serves::CHAT.and(Serves::RESPONSES),
        ..like_openai("zerogpu", "https://api.zerogpu.ai/v1")
    },
];

/// Prefixes that LiteLLM knows and whose wires are not spoken here yet.
static NOT_SPOKEN: &[&str] = &[
    "a2a",
    "a2a_agent",
    "auto_router",
    "aws_polly",
    "aws_textract",
    "azure_speech",
    "bedrock",
    "bespoke",
    "black_forest_labs",
    "bytez",
    "chatgpt",
    "cloudflare",
    "cohere",
    "cohere_chat",
    "cursor",
    "custom",
    "databricks",
    "databricks_agent",
    "deepgram",
    "dotprompt",
    "elevenlabs",
    "eu_jev",
    "fal_ai",
    "gdc",
    "gemini",
    "gigachat",
    "github_copilot",
    "huggingface",
    "humanloop",
    "langflow",
    "langfuse",
    "langgraph",
    "laya",
    "litellm_agent",
    "manus",
    "microsoft_365_copilot",
    "milvus",
    "mongodb",
    "nace",
    "nlp_cloud",
    "nvidia_riva",
    "oci",
    "opensearch",
    "petals",
    "pg_vector",
    "predibase",
    "ragflow",
    "recraft",
    "reducto",
    "replicate",
    "runwayml",
    "s3_vectors",
    "sagemaker",
    "sagemaker_chat",
    "sagemaker_nova",
    "sap",
    "scaledown",
    "snowflake",
    "soniox",
    "stability",
    "strands_decider",
    "topaz",
    "transcribe",
    "triton",
    "typesafe",
    "valkey",
    "vertex_ai",
    "vertex_ai_beta",
    "vllm",
    "watsonx",
    "watsonx_text",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_sorted_and_each_prefix_stands_once() {
        let prefixes: Vec<_> = VENDORS.iter().map(|vendor| vendor.prefix).collect();
        let mut sorted = prefixes.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(prefixes, sorted);
        assert!(NOT_SPOKEN.is_sorted());
        assert!(NOT_SPOKEN.iter().all(|prefix| find(prefix).is_none()));
    }

    #[test]
    fn every_row_can_be_called() {
        for vendor in VENDORS {
            let prefix = vendor.prefix;
            if !vendor.base.is_empty() {
                let base: http::Uri = vendor.base.parse().unwrap();
                assert!(base.authority().is_some(), "{prefix}");
                assert!(!vendor.base.ends_with('/'), "{prefix}");
            }
            let has_key = !vendor.key_env.is_empty() || vendor.key == Key::Optional;
            assert!(has_key, "{prefix}");
            for name in vendor.refuses {
                assert!(!vendor.renames.iter().any(|(from, _)| from == name), "{prefix} {name}");
            }
        }
    }

    #[test]
    fn no_two_providers_share_a_key_unless_they_share_an_owner() {
        for one in VENDORS {
            for other in VENDORS {
                let shared = one.key_env.iter().find(|name| other.key_env.contains(name));
                if one.prefix < other.prefix && shared.is_some() {
                    let family = |vendor: &Vendor| {
                        let families = [
                            "openai",
                            "azure",
                            "anthropic",
                            "ollama",
                            "codestral",
                            "inception",
                            "ai21",
                            "qwen",
                            "dashscope",
                        ];
                        let family =
                            families.iter().find(|family| vendor.prefix.contains(**family));
                        family.map(|family| if *family == "dashscope" { "qwen" } else { family })
                    };
                    assert_eq!(family(one), family(other), "{} {}", one.prefix, other.prefix);
                }
            }
        }
    }

    #[test]
    fn another_name_for_an_address_and_key_is_not_primary() {
        let names: Vec<_> = primary().map(|vendor| vendor.prefix).collect();
        assert!(["openai", "anthropic", "azure", "groq"].iter().all(|name| names.contains(name)));
        assert!(!names.contains(&"aiohttp_openai") && !names.contains(&"anthropic_text"));
    }

    #[test]
    fn a_slip_finds_its_nearest_name() {
        assert_eq!(nearest("nvidia"), Some("nvidia_nim"));
        assert_eq!(nearest("opnai"), Some("openai"));
        assert_eq!(nearest("qqqq"), None);
        assert_eq!(find("groq").unwrap().key_env, ["GROQ_API_KEY"]);
        assert_eq!(is_not_spoken("bedrock"), Some("bedrock"));
    }
}
