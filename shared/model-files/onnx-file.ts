/**
 * ONNX files, checked before the runtime's C++ parser sees them (docs/engine.md, section 6).
 *
 * The checker walks the whole protobuf message by the table in onnx-schema.ts, in constant memory: payloads are
 * skipped, and of a file of 2 GiB only its structure is read. What it promises of a file that passes: every
 * length lies inside the message around it; every field is known, of its type, and given once unless it may be
 * repeated; depth, counts and texts are bounded; every tensor's data are in exactly one place and as large as its
 * dimensions say; every operator is of a domain that the runtime has. Whether the graph makes sense is the
 * runtime's to say.
 */
import { ModelFileError } from './errors.ts';
import { type Field, MESSAGES, type MessageName } from './onnx-schema.ts';
import { checkTensor, type ExternalData, type Found } from './onnx-tensor.ts';
import { type FileBytes, malformed, ProtobufReader, WIRE } from './protobuf.ts';

/** Protobuf's own limit. Larger models keep their weights in external data. */
const MAX_FILE_BYTES = 2 ** 31 - 1;
const MAX_FIELDS = 100_000_000;
/** Of messages in one another. A graph inside a graph (a loop's body) takes three; protobuf's parser stops at 100. */
const MAX_DEPTH = 50;
const MAX_NODES = 1_000_000;
const MAX_TENSORS = 1_000_000;
const MAX_GRAPH_VALUES = 1024;
const MAX_RANK = 32;
const MAX_LOCATIONS = 4096;
const MAX_NAME_BYTES = 4096;
const MAX_PROSE_BYTES = 16 * 1024 * 1024;
const MAX_OPSETS = 64;
const MAX_KEPT = 64;

/** What the runtime's CPU build has kernels for. The default domain is '' and has the alias ai.onnx. */
const DOMAINS = new Set(['', 'ai.onnx.ml', 'com.microsoft', 'com.microsoft.nchwc']);
const PROSE = new Set(['doc_string', 'value']);

export interface OnnxFile {
  readonly irVersion: number;
  /** Version of each operator set, by domain. */
  readonly opsets: ReadonlyMap<string, number>;
  readonly nodes: number;
  readonly tensors: number;
  readonly inputs: number;
  readonly outputs: number;
  /** Files that tensors are in, as the file names them, and where the last of these tensors ends, in bytes. */
  readonly externalEnds: ReadonlyMap<string, number>;
}

/** Throws ModelFileError MODEL_FILE_MALFORMED or MODEL_FILE_UNSUPPORTED. */
export function checkOnnxFile(file: FileBytes): OnnxFile {
  if (file.sizeBytes > MAX_FILE_BYTES) {
    throw malformed(`${file.sizeBytes} bytes, an ONNX file has at most ${MAX_FILE_BYTES}`);
  }
  return new Walk(file).model();
}

class Walk {
  readonly #file: FileBytes;
  readonly #reader: ProtobufReader;
  readonly #domains = new Set<string>();
  readonly #externalEnds = new Map<string, number>();
  #nodes = 0;
  #tensors = 0;

  constructor(file: FileBytes) {
    this.#file = file;
    this.#reader = new ProtobufReader(file, MAX_FIELDS);
  }

  model(): OnnxFile {
    const model = this.#message('Model', this.#file.sizeBytes, 1);
    const irVersion = model.varints[1] ?? 0;
    // 3 is the first that any exporter wrote; the runtime draws its own upper line.
    if (irVersion < 3 || irVersion > 100) throw malformed(`IR version ${irVersion}`);
    const graph = model.children[7]?.[0];
    if (graph === undefined) throw malformed('it has no graph');
    const inputs = graph.counts[11] ?? 0;
    const outputs = graph.counts[12] ?? 0;
    if (outputs === 0 || inputs > MAX_GRAPH_VALUES + this.#tensors || outputs > MAX_GRAPH_VALUES) {
      throw malformed(`a graph of ${inputs} inputs and ${outputs} outputs`);
    }
    return {
      irVersion,
      opsets: this.#opsets(model.children[8] ?? []),
      nodes: this.#nodes,
      tensors: this.#tensors,
      inputs,
      outputs,
      externalEnds: this.#externalEnds,
    };
  }

  #opsets(imports: readonly Found[]): ReadonlyMap<string, number> {
    if (imports.length > MAX_OPSETS) throw malformed(`${imports.length} operator sets`);
    const opsets = new Map<string, number>();
    for (const { texts, varints } of imports) {
      const domain = plainDomain(texts[1]);
      const version = varints[2] ?? 0;
      if (opsets.has(domain) || version < 1 || version > 10_000) {
        throw malformed(`operator set ${JSON.stringify(domain)} twice or of version ${version}`);
      }
      opsets.set(domain, version);
    }
    for (const domain of this.#domains) {
      if (!opsets.has(domain))
        throw malformed(`operators of ${JSON.stringify(domain)}, which is not imported`);
    }
    return opsets;
  }

  #message(name: MessageName, end: number, depth: number): Found {
    if (depth > MAX_DEPTH) throw malformed(`messages in one another beyond ${MAX_DEPTH}`);
    const found: Found = { counts: [], varints: [], texts: [], sizes: [], children: [], dims: [] };
    const fields = MESSAGES[name];
    const reader = this.#reader;
    while (reader.next(end)) {
      const field = fields.get(reader.number);
      if (field === undefined) {
        throw new ModelFileError(
          'MODEL_FILE_UNSUPPORTED',
          `The model file is refused: field ${reader.number} of ${name}, which is not served (byte ${reader.position}).`,
        );
      }
      this.#field(name, field, end, depth, found);
    }
    if (name === 'Node') this.#node(found);
    if (name === 'Tensor') this.#tensor(found);
    return found;
  }

  #field(message: MessageName, field: Field, end: number, depth: number, found: Found): void {
    const reader = this.#reader;
    const { number, wire } = reader;
    const count = found.counts[number] ?? 0;
    if (count > 0 && field.many !== true) throw malformed(`${message}.${field.name} twice`);
    found.counts[number] = count + 1;
    const isNumber = field.kind === 'varint' || field.kind === 'fixed32' || field.kind === 'fixed64';
    if (isNumber && wire === WIRE[field.kind]) {
      this.#number(message, field.kind, end, found);
      return;
    }
    if (wire !== WIRE.bytes || (isNumber && field.many !== true)) {
      throw malformed(`${message}.${field.name} of wire type ${wire}`);
    }
    const payloadEnd = reader.payloadEnd(end);
    const size = payloadEnd - reader.position;
    found.sizes[number] = size;
    if (isNumber) {
      found.counts[number] = count + this.#packed(message, field.kind, payloadEnd, found);
    } else if (field.kind === 'text') {
      const most = PROSE.has(field.name) && field.keep !== true ? MAX_PROSE_BYTES : MAX_NAME_BYTES;
      if (size > most) throw malformed(`${message}.${field.name} of ${size} bytes`);
      if (field.keep === true) found.texts[number] = reader.text(payloadEnd);
      else reader.skipTo(payloadEnd, end);
    } else if (field.kind === 'bytes') {
      reader.skipTo(payloadEnd, end);
    } else {
      this.#child(message, number, field.kind, payloadEnd, depth, 'keep' in field ? found : undefined);
    }
  }

  #child(
    message: MessageName,
    number: number,
    kind: MessageName,
    end: number,
    depth: number,
    keeper: Found | undefined,
  ): void {
    const child = this.#message(kind, end, depth + 1);
    if (keeper === undefined) return;
    const siblings = keeper.children[number] ?? [];
    if (siblings.length >= MAX_KEPT)
      throw malformed(`more than ${MAX_KEPT} of field ${number} of ${message}`);
    siblings.push(child);
    keeper.children[number] = siblings;
  }

  #number(message: MessageName, kind: 'varint' | 'fixed32' | 'fixed64', end: number, found: Found): void {
    const reader = this.#reader;
    if (kind === 'varint') {
      const { number } = reader;
      const value = reader.varint(end);
      found.varints[number] = value;
      if (message === 'Tensor' && number === 1) dimension(value, found);
    } else reader.skipTo(reader.position + (kind === 'fixed32' ? 4 : 8), end);
  }

  #packed(message: MessageName, kind: 'varint' | 'fixed32' | 'fixed64', end: number, found: Found): number {
    const reader = this.#reader;
    if (kind === 'varint') {
      if (message !== 'Tensor' || reader.number !== 1) return reader.countVarints(end);
      const before = found.dims.length;
      while (reader.position < end) dimension(reader.varint(end), found);
      return found.dims.length - before;
    }
    const each = kind === 'fixed32' ? 4 : 8;
    const size = end - reader.position;
    if (size % each !== 0) throw malformed(`${size} bytes for numbers of ${each}`);
    reader.skipTo(end, end);
    return size / each;
  }

  #node(found: Found): void {
    this.#nodes += 1;
    if (this.#nodes > MAX_NODES) throw malformed(`more than ${MAX_NODES} nodes`);
    const domain = plainDomain(found.texts[7]);
    if (!DOMAINS.has(domain)) {
      throw new ModelFileError(
        'MODEL_FILE_UNSUPPORTED',
        `The model file is refused: operator ${JSON.stringify(found.texts[4] ?? '')} of ${JSON.stringify(domain)}, a domain that the runtime has not.`,
      );
    }
    this.#domains.add(domain);
  }

  #tensor(found: Found): void {
    this.#tensors += 1;
    if (this.#tensors > MAX_TENSORS) throw malformed(`more than ${MAX_TENSORS} tensors`);
    const external = checkTensor(found);
    if (external !== undefined) this.#external(external);
  }

  #external({ location, offsetBytes, sizeBytes }: ExternalData): void {
    const end = offsetBytes + sizeBytes;
    this.#externalEnds.set(location, Math.max(end, this.#externalEnds.get(location) ?? 0));
    if (this.#externalEnds.size > MAX_LOCATIONS) throw malformed(`more than ${MAX_LOCATIONS} external files`);
  }
}

function dimension(size: number, found: Found): void {
  if (!Number.isSafeInteger(size)) throw malformed('a tensor with a negative dimension');
  found.dims.push(size);
  if (found.dims.length > MAX_RANK) throw malformed(`a tensor of more than ${MAX_RANK} dimensions`);
}

function plainDomain(domain = ''): string {
  return domain === 'ai.onnx' ? '' : domain;
}
