/** What the engine of an ONNX text model and its supervisor both know of it. */

/** The one input: BYTES [texts]. */
export const TEXT_INPUT = 'text';
/** FP32 [texts, width], each of Euclidean length 1. */
export const EMBEDDING_OUTPUT = 'embedding';
/** INT64 [texts]: tokens of each text, special ones included. */
export const TOKEN_COUNT_OUTPUT = 'token_count';

export const TEXTS_MAX = 256;
/** All texts of a request. Bounds the time of tokenising, as the next bounds the time of computing. */
export const TEXTS_MAX_BYTES = 256 * 1024;
/** Of a request of several texts, each filled up to the longest. */
export const TEXTS_MAX_TOKENS = 16_384;
