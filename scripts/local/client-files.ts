/** What a caller of a local stack needs on disk: what to expect of the enclave, and something to ask it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXPECTATIONS_FORMAT } from '../../client/expectations-file.ts';
import type { VerifiedEnclave } from '../../client/verified-enclave.ts';
import type { MeasuredPcrs } from './release.ts';

export interface ClientFiles {
  readonly expectations: string;
  readonly simulationRoot: string;
  /** Absent for a model whose inputs cannot be written down as JSON. */
  readonly input?: string;
}

export interface ServedModel {
  readonly name: string;
  readonly pcrs: MeasuredPcrs;
  readonly simulationRoot: string;
  readonly question: object | undefined;
}

/** Makes the folder if need be, and replaces files of an earlier simulation. */
export function writeClientFiles(
  folder: string,
  { name, pcrs, simulationRoot, question }: ServedModel,
): ClientFiles {
  mkdirSync(folder, { recursive: true });
  const write = (file: string, text: string): string => {
    const path = join(folder, file);
    writeFileSync(path, text);
    return path;
  };
  const expectations = {
    format: EXPECTATIONS_FORMAT,
    pcrs,
    models: [{ name, minimumVersion: 1 }],
    simulationRoot: 'simulation-root.pem',
  };
  return {
    simulationRoot: write('simulation-root.pem', simulationRoot),
    expectations: write('expectations.json', `${JSON.stringify(expectations, null, 2)}\n`),
    ...(question === undefined ? {} : { input: write('input.json', `${JSON.stringify(question)}\n`) }),
  };
}

interface TensorMetadata {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
}

/** An example of this many elements is no example any more. */
const EXAMPLE_ELEMENTS_MAX = 1_000_000;

/** A question that the model takes, all zeros; undefined if it has no form in JSON or would be huge. */
export async function exampleQuestion(
  enclave: VerifiedEnclave,
  modelName: string,
): Promise<object | undefined> {
  const response = await enclave.fetch(`/v2/models/${modelName}`);
  const { inputs } = (await response.json()) as { readonly inputs: readonly TensorMetadata[] };
  const tensors = inputs.map(({ name, datatype, shape }) => {
    const sizes = shape.map((size) => (size < 0 ? 1 : size));
    const count = sizes.reduce((product, size) => product * size, 1);
    return { name, datatype, shape: sizes, count };
  });
  // A language model has none.
  if (inputs.length === 0) return undefined;
  const hasExample = tensors.every(
    ({ datatype, count }) => datatype !== 'FP16' && count <= EXAMPLE_ELEMENTS_MAX,
  );
  if (!hasExample) return undefined;
  return {
    inputs: tensors.map(({ count, ...tensor }) => ({
      ...tensor,
      data: Array.from({ length: count }, () => zeroOf(tensor.datatype)),
    })),
  };
}

function zeroOf(datatype: string): number | string | boolean {
  if (datatype === 'BYTES') return '';
  return datatype === 'BOOL' ? false : 0;
}
