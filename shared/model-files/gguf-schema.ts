/** What a GGUF file may hold for this release's llama.cpp: architectures, tokenizers, types of values and tensors. */

/**
 * Of `general.architecture`: models that continue text. Those that llama.cpp knows besides (recurrent ones, encoders,
 * vision, speech) are not served.
 */
export const GGUF_ARCHITECTURES: ReadonlySet<string> = new Set(
  `apertus arcee arctic baichuan bailingmoe bitnet bloom chatglm codeshell cohere2 command-r dbrx deci deepseek deepseek2
   dots1 ernie4_5 ernie4_5-moe exaone exaone4 falcon gemma gemma2 gemma3 glm4 glm4moe gpt-oss gpt2 gptneox granite
   granitemoe grok hunyuan-dense hunyuan-moe internlm2 jais llama llama4 minicpm minicpm3 mistral3 mpt nemotron olmo olmo2
   olmoe openelm orion phi2 phi3 phimoe plamo qwen qwen2 qwen2moe qwen3 qwen3moe refact seed_oss smollm3 stablelm starcoder
   starcoder2 xverse`.split(/\s+/),
);

/** Of `tokenizer.ggml.model`: SentencePiece with merges by score, and byte-level BPE with a list of merges. */
export const GGUF_TOKENIZERS: ReadonlySet<string> = new Set(['llama', 'gpt2']);

/** gguf_metadata_value_type of docs/gguf.md, with the bytes of one value; a string or an array has no fixed number. */
export const GGUF_VALUES: ReadonlyMap<
  number,
  { readonly name: string; readonly sizeBytes: number | undefined }
> = new Map(
  (
    [
      ['uint8', 1],
      ['int8', 1],
      ['uint16', 2],
      ['int16', 2],
      ['uint32', 4],
      ['int32', 4],
      ['float32', 4],
      ['bool', 1],
      ['string', undefined],
      ['array', undefined],
      ['uint64', 8],
      ['int64', 8],
      ['float64', 8],
    ] as const
  ).map(([name, sizeBytes], type) => [type, { name, sizeBytes }]),
);

/** ggml_type of ggml.h: elements of a block, and its bytes. A row is a whole number of blocks. */
export const GGML_BLOCKS: ReadonlyMap<number, { readonly elements: number; readonly sizeBytes: number }> =
  new Map(
    (
      [
        [0, 1, 4], // F32
        [1, 1, 2], // F16
        [2, 32, 18], // Q4_0
        [3, 32, 20], // Q4_1
        [6, 32, 22], // Q5_0
        [7, 32, 24], // Q5_1
        [8, 32, 34], // Q8_0
        [10, 256, 84], // Q2_K
        [11, 256, 110], // Q3_K
        [12, 256, 144], // Q4_K
        [13, 256, 176], // Q5_K
        [14, 256, 210], // Q6_K
        [16, 256, 66], // IQ2_XXS
        [17, 256, 74], // IQ2_XS
        [18, 256, 98], // IQ3_XXS
        [19, 256, 50], // IQ1_S
        [20, 32, 18], // IQ4_NL
        [21, 256, 110], // IQ3_S
        [22, 256, 82], // IQ2_S
        [23, 256, 136], // IQ4_XS
        [26, 1, 4], // I32
        [29, 256, 56], // IQ1_M
        [30, 1, 2], // BF16
        [34, 256, 54], // TQ1_0
        [35, 256, 66], // TQ2_0
        [39, 32, 17], // MXFP4
      ] as const
    ).map(([type, elements, sizeBytes]) => [type, { elements, sizeBytes }]),
  );
