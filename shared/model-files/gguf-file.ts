/**
 * The strict check of a GGUF file, before llama.cpp's own reader sees it (docs/engine.md section 7): constant memory, no
 * length believed, and only what this release serves.
 */
import { ModelFileError } from './errors.ts';
import { type GgufMetadata, readGgufMetadata } from './gguf-metadata.ts';
import { GgufReader } from './gguf-reader.ts';
import { GGML_BLOCKS, GGUF_ARCHITECTURES, GGUF_TOKENIZERS } from './gguf-schema.ts';
import { type FileBytes, malformed } from './protobuf.ts';

/** What the engine needs to know of the file that was checked. */
export interface GgufFile {
  readonly architecture: string;
  /** Of one sequence, as the model was trained. */
  readonly contextTokens: number;
  readonly vocabularyTokens: number;
  readonly tokenizer: string;
  /** Whether text is given a space at its beginning (SentencePiece). */
  readonly spacePrefix: boolean;
  /** Keys and values that one token leaves in the context, at 16 bits each. */
  readonly contextBytesPerToken: number;
  readonly chatTemplate: string | undefined;
}

const MAGIC = 0x46554747; // "GGUF"
/** 2 and 3 have one layout; 3 says that it could be big-endian, and such files are not read. */
const VERSIONS = [2, 3];
const MAX_TENSORS = 65_536;
/** Everything before the data: the vocabularies of large models take some ten MiB. */
const MAX_HEADER_BYTES = 256 * 1024 * 1024;
/** GGML_MAX_NAME of ggml.h is 64, with the byte that ends a name. */
const MAX_NAME_BYTES = 63;
const MAX_DIMENSIONS = 4;
const DEFAULT_ALIGNMENT = 32;
const MAX_ALIGNMENT = 4096;
const MAX_VOCABULARY = 2 ** 20;
const MAX_TEMPLATE_BYTES = 256 * 1024;

/** What llama.cpp divides, multiplies and allocates by, with the largest values that any model is near. */
const BOUNDS: readonly (readonly [key: string, least: number, most: number, required: boolean])[] = [
  ['block_count', 1, 1024, true],
  ['context_length', 1, 2 ** 24, true],
  ['embedding_length', 1, 2 ** 18, true],
  ['feed_forward_length', 0, 2 ** 22, false],
  ['attention.head_count', 1, 4096, true],
  ['attention.head_count_kv', 1, 4096, false],
  ['attention.key_length', 1, 8192, false],
  ['attention.value_length', 1, 8192, false],
  ['rope.dimension_count', 0, 8192, false],
  ['expert_count', 0, 4096, false],
  ['expert_used_count', 0, 4096, false],
  ['vocab_size', 1, MAX_VOCABULARY, false],
];

/** Throws ModelFileError. */
export function checkGgufFile(file: FileBytes): GgufFile {
  const reader = new GgufReader(file, MAX_HEADER_BYTES);
  if (reader.uint32() !== MAGIC) throw malformed('it does not begin with GGUF');
  const version = reader.uint32();
  if (!VERSIONS.includes(version))
    throw unsupported(`GGUF version ${version}: expected 2 or 3, little-endian`);
  const tensors = reader.uint64();
  if (tensors < 1 || tensors > MAX_TENSORS) {
    throw malformed(`${tensors} tensors: expected 1 to ${MAX_TENSORS}`);
  }
  const metadata = readGgufMetadata(reader, reader.uint64(), checkElement);
  const facts = checkMetadata(metadata);
  checkTensors(reader, tensors, alignmentOf(metadata), file.sizeBytes);
  return facts;
}

/** llama.cpp takes the first space of a merge as what parts its two tokens, and reads beyond it. */
function checkElement(key: string, element: Uint8Array | number): void {
  if (key === 'tokenizer.ggml.merges' && typeof element !== 'number') {
    const space = element.indexOf(0x20, 1);
    if (space < 0 || space === element.length - 1) throw malformed('a merge that is not two tokens');
  }
  if (key === 'tokenizer.ggml.tokens' && typeof element !== 'number' && element.includes(0)) {
    throw malformed('a token with a zero byte');
  }
  if (key === 'tokenizer.ggml.token_type' && typeof element === 'number' && (element < 0 || element > 6)) {
    throw malformed(`a token of the unknown type ${element}`);
  }
}

function checkMetadata(metadata: GgufMetadata): GgufFile {
  const split = metadata.get('split.count');
  if (split !== undefined && split !== 0 && split !== 1) {
    throw unsupported('it is one part of a split model: merge the parts with llama-gguf-split first');
  }
  const architecture = text(metadata, 'general.architecture');
  if (!GGUF_ARCHITECTURES.has(architecture)) {
    throw unsupported(`the architecture ${JSON.stringify(architecture.slice(0, 64))}`);
  }
  const of = (key: string): number[] => numbers(metadata, `${architecture}.${key}`);
  for (const [key, least, most, required] of BOUNDS) {
    const found = of(key);
    if (required && found.length === 0) throw malformed(`${architecture}.${key} is missing`);
    // One number for each layer: a layer may have none of a kind.
    const lower = found.length > 1 ? 0 : least;
    if (found.some((value) => !Number.isSafeInteger(value) || value < lower || value > most)) {
      throw malformed(`${architecture}.${key}: expected ${least} to ${most}, found ${found.slice(0, 8)}`);
    }
  }
  const layers = of('block_count')[0] ?? 0;
  for (const [key] of BOUNDS) {
    const { length } = of(key);
    if (length > 1 && length < layers)
      throw malformed(`${architecture}.${key}: ${length} values for ${layers} layers`);
  }
  const heads = of('attention.head_count');
  const width = of('embedding_length')[0] ?? 0;
  const headsOfKeys = of('attention.head_count_kv');
  const widest = Math.max(...heads, 1);
  if (width % widest !== 0 && of('attention.key_length').length === 0) {
    throw malformed(`an embedding length of ${width} for ${widest} heads`);
  }
  const keyLength = of('attention.key_length')[0] ?? width / widest;
  const valueLength = of('attention.value_length')[0] ?? width / widest;
  const keyHeads = headsOfKeys.length > 0 ? headsOfKeys : heads;
  const allHeads =
    keyHeads.length > 1
      ? keyHeads.slice(0, layers).reduce((sum, count) => sum + count, 0)
      : (keyHeads[0] ?? 0) * layers;
  const template = metadata.get('tokenizer.chat_template');
  if (template !== undefined && (typeof template !== 'string' || template.length > MAX_TEMPLATE_BYTES)) {
    throw malformed(`the chat template: expected a text of at most ${MAX_TEMPLATE_BYTES} characters`);
  }
  return {
    architecture,
    contextTokens: of('context_length')[0] ?? 0,
    ...checkTokenizer(metadata),
    contextBytesPerToken: allHeads * (keyLength + valueLength) * 2,
    chatTemplate: template,
  };
}

function checkTokenizer(
  metadata: GgufMetadata,
): Pick<GgufFile, 'tokenizer' | 'vocabularyTokens' | 'spacePrefix'> {
  const tokenizer = text(metadata, 'tokenizer.ggml.model');
  if (!GGUF_TOKENIZERS.has(tokenizer)) {
    throw unsupported(`the tokenizer ${JSON.stringify(tokenizer.slice(0, 64))}`);
  }
  const vocabularyTokens = arrayLength(metadata, 'tokenizer.ggml.tokens', 'string') ?? 0;
  if (vocabularyTokens < 1 || vocabularyTokens > MAX_VOCABULARY) {
    throw malformed(`a vocabulary of ${vocabularyTokens} tokens: expected 1 to ${MAX_VOCABULARY}`);
  }
  for (const [key, of] of [
    ['tokenizer.ggml.scores', 'float32'],
    ['tokenizer.ggml.token_type', 'int32'],
  ] as const) {
    const length = arrayLength(metadata, key, of);
    if (length !== undefined && length !== vocabularyTokens) {
      throw malformed(`${key} has ${length} elements for ${vocabularyTokens} tokens`);
    }
  }
  if (tokenizer === 'llama' && !metadata.has('tokenizer.ggml.scores'))
    throw malformed('a vocabulary without scores');
  const merges = arrayLength(metadata, 'tokenizer.ggml.merges', 'string');
  if (tokenizer === 'gpt2' && merges === undefined) throw malformed('a vocabulary without merges');
  if (metadata.has('tokenizer.ggml.precompiled_charsmap')) throw unsupported('a compiled map of characters');
  for (const [key, value] of metadata) {
    if (!/^tokenizer\.ggml\.\w+_token_ids?$/.test(key)) continue;
    const ids = typeof value === 'object' ? (value.numbers ?? []) : [value];
    for (const id of ids) {
      if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= vocabularyTokens) {
        throw malformed(`${key} is no token of ${vocabularyTokens}: ${id}`);
      }
    }
  }
  const spacePrefix =
    tokenizer === 'llama' && (metadata.get('tokenizer.ggml.add_space_prefix') ?? true) === true;
  return { tokenizer, vocabularyTokens, spacePrefix };
}

/** ggml lays the tensors out one after the other, each padded; whoever claims another place could claim an overlap. */
function checkTensors(reader: GgufReader, count: number, alignment: number, fileSizeBytes: number): void {
  const padded = (sizeBytes: number): number => Math.ceil(sizeBytes / alignment) * alignment;
  const names = new Set<string>();
  let expectedOffset = 0;
  let dataEnd = 0;
  for (let index = 0; index < count; index += 1) {
    const name = reader.text(MAX_NAME_BYTES, 'the name of a tensor');
    if (!KEY_OF_A_TENSOR.test(name)) throw malformed('the name of a tensor that is not printable ASCII');
    if (names.has(name)) throw malformed(`the tensor ${name} is there twice`);
    names.add(name);
    const sizeBytes = tensorSizeBytes(reader, name);
    const offset = reader.uint64();
    if (offset !== expectedOffset) {
      throw malformed(
        `the tensor ${name} begins at ${offset}: expected ${expectedOffset}, where the one before ends`,
      );
    }
    dataEnd = offset + sizeBytes;
    expectedOffset += padded(sizeBytes);
    if (!Number.isSafeInteger(expectedOffset)) throw malformed('tensors of more bytes than can be counted');
  }
  const dataStart = padded(reader.position);
  if (fileSizeBytes < dataStart + dataEnd) {
    throw malformed(`its tensors end at byte ${dataStart + dataEnd}, the file at byte ${fileSizeBytes}`);
  }
  if (fileSizeBytes > dataStart + expectedOffset) {
    throw malformed(`${fileSizeBytes - dataStart - expectedOffset} bytes beyond its last tensor`);
  }
}

const KEY_OF_A_TENSOR = /^[\x21-\x7e]+$/;

function tensorSizeBytes(reader: GgufReader, name: string): number {
  const dimensions = reader.uint32();
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
    throw malformed(`the tensor ${name} has ${dimensions} dimensions: expected 1 to ${MAX_DIMENSIONS}`);
  }
  const sizes = Array.from({ length: dimensions }, () => reader.uint64());
  const elements = sizes.reduce((product, size) => product * size, 1);
  if (sizes.includes(0) || !Number.isSafeInteger(elements)) {
    throw malformed(`the tensor ${name} has the dimensions ${sizes}`);
  }
  const type = reader.uint32();
  const block = GGML_BLOCKS.get(type);
  if (block === undefined) throw unsupported(`the tensor ${name} of type ${type}`);
  if ((sizes[0] ?? 0) % block.elements !== 0) {
    throw malformed(`a row of ${sizes[0]} elements of the tensor ${name}, in blocks of ${block.elements}`);
  }
  const sizeBytes = (elements / block.elements) * block.sizeBytes;
  if (!Number.isSafeInteger(sizeBytes)) throw malformed(`the tensor ${name} has the dimensions ${sizes}`);
  return sizeBytes;
}

function alignmentOf(metadata: GgufMetadata): number {
  const alignment = metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT;
  const powerOfTwo = typeof alignment === 'number' && Number.isInteger(Math.log2(alignment));
  if (!powerOfTwo || alignment < 8 || alignment > MAX_ALIGNMENT) {
    throw malformed(
      `general.alignment: expected a power of two from 8 to ${MAX_ALIGNMENT}, found ${String(alignment)}`,
    );
  }
  return alignment;
}

function text(metadata: GgufMetadata, key: string): string {
  const value = metadata.get(key);
  if (typeof value !== 'string') throw malformed(`${key}: expected a text`);
  return value;
}

/** A number, or one for each layer; none if the key is absent. */
function numbers(metadata: GgufMetadata, key: string): number[] {
  const value = metadata.get(key);
  if (value === undefined) return [];
  if (typeof value === 'number') return [value];
  if (typeof value === 'object' && value.numbers !== undefined) return [...value.numbers];
  throw malformed(`${key}: expected a number`);
}

function arrayLength(metadata: GgufMetadata, key: string, of: string): number | undefined {
  const value = metadata.get(key);
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || value.of !== of) throw malformed(`${key}: expected a list of ${of}`);
  return value.length;
}

function unsupported(what: string): ModelFileError {
  return new ModelFileError('MODEL_FILE_UNSUPPORTED', `The model file is not served: ${what}.`);
}
