/**
 * The demonstration's model: a small network that tells three species of iris apart by four measurements
 * (R. A. Fisher, "The use of multiple measurements in taxonomic problems", 1936; iris.csv beside this file).
 *
 * Training is full-batch gradient descent from a fixed seed with no randomness of the machine in it, so the
 * same data give the same network, and the same ONNX file, every time.
 */
import { readFileSync } from 'node:fs';

export interface Flower {
  /** Sepal length, sepal width, petal length, petal width, in centimetres. */
  readonly measurements: readonly number[];
  readonly species: Species;
}

export const SPECIES = ['setosa', 'versicolor', 'virginica'] as const;
export type Species = (typeof SPECIES)[number];

/** A network of one hidden layer: probabilities = softmax(relu(x W1 + b1) W2 + b2). Row-major matrices. */
export interface IrisNetwork {
  readonly hiddenWeights: Float32Array;
  readonly hiddenBias: Float32Array;
  readonly outputWeights: Float32Array;
  readonly outputBias: Float32Array;
}

export const INPUTS = 4;
export const HIDDEN = 16;
export const OUTPUTS = 3;

const EPOCHS = 600;
const LEARNING_RATE = 0.1;
const SEED = 1936;

export function readFlowers(): readonly Flower[] {
  const [, ...lines] = readFileSync(new URL('./iris.csv', import.meta.url), 'utf8')
    .trim()
    .split('\n');
  return lines.map((line) => {
    const cells = line.split(',');
    const species = SPECIES.find((known) => known === cells[INPUTS]);
    if (species === undefined) throw new Error(`iris.csv names an unknown species: ${line}`);
    return { measurements: cells.slice(0, INPUTS).map(Number), species };
  });
}

/** Every fifth flower is kept out of training, so the accuracy that is shown was not learnt by heart. */
export function splitFlowers(flowers: readonly Flower[]): {
  training: readonly Flower[];
  held: readonly Flower[];
} {
  return {
    training: flowers.filter((_, index) => index % 5 !== 4),
    held: flowers.filter((_, index) => index % 5 === 4),
  };
}

/** Trains on `flowers`; deterministic. Takes a fraction of a second. */
export function trainIris(flowers: readonly Flower[]): IrisNetwork {
  const { mean, deviation } = statistics(flowers);
  const inputs = flowers.map(({ measurements }) =>
    measurements.map((value, i) => (value - at(mean, i)) / at(deviation, i)),
  );
  const labels = flowers.map(({ species }) => SPECIES.indexOf(species));
  const random = mulberry32(SEED);
  const layer = (rows: number, columns: number): Float64Array =>
    Float64Array.from({ length: rows * columns }, () => (random() * 2 - 1) * Math.sqrt(2 / rows));
  const w1 = layer(INPUTS, HIDDEN);
  const b1 = new Float64Array(HIDDEN);
  const w2 = layer(HIDDEN, OUTPUTS);
  const b2 = new Float64Array(OUTPUTS);
  for (let epoch = 0; epoch < EPOCHS; epoch++) {
    const gradient = {
      w1: new Float64Array(w1.length),
      b1: new Float64Array(HIDDEN),
      w2: new Float64Array(w2.length),
      b2: new Float64Array(OUTPUTS),
    };
    inputs.forEach((x, n) => {
      const hidden = affine(x, w1, b1, HIDDEN).map((value) => Math.max(0, value));
      const error = softmax(affine(hidden, w2, b2, OUTPUTS));
      const label = at(labels, n);
      error[label] = at(error, label) - 1;
      for (let j = 0; j < HIDDEN; j++) {
        let back = 0;
        for (let k = 0; k < OUTPUTS; k++) {
          add(gradient.w2, j * OUTPUTS + k, at(hidden, j) * at(error, k));
          back += at(w2, j * OUTPUTS + k) * at(error, k);
        }
        if (at(hidden, j) <= 0) continue;
        add(gradient.b1, j, back);
        for (let i = 0; i < INPUTS; i++) add(gradient.w1, i * HIDDEN + j, at(x, i) * back);
      }
      for (let k = 0; k < OUTPUTS; k++) add(gradient.b2, k, at(error, k));
    });
    const step = LEARNING_RATE / inputs.length;
    descend(w1, gradient.w1, step);
    descend(b1, gradient.b1, step);
    descend(w2, gradient.w2, step);
    descend(b2, gradient.b2, step);
  }
  return foldNormalisation({ w1, b1, w2, b2, mean, deviation });
}

/** The network's own arithmetic, to check an engine against. */
export function predictIris(network: IrisNetwork, measurements: readonly number[]): number[] {
  const hidden = affine(measurements, network.hiddenWeights, network.hiddenBias, HIDDEN);
  return softmax(
    affine(
      hidden.map((value) => Math.max(0, value)),
      network.outputWeights,
      network.outputBias,
      OUTPUTS,
    ),
  );
}

interface Trained {
  readonly w1: Float64Array;
  readonly b1: Float64Array;
  readonly w2: Float64Array;
  readonly b2: Float64Array;
  readonly mean: readonly number[];
  readonly deviation: readonly number[];
}

/** Callers send centimetres: the normalisation becomes part of the first layer. */
function foldNormalisation({ w1, b1, w2, b2, mean, deviation }: Trained): IrisNetwork {
  const weights = w1.map((value, index) => value / at(deviation, Math.floor(index / HIDDEN)));
  const bias = b1.map((value, j) => {
    let shifted = value;
    for (let i = 0; i < INPUTS; i++) shifted -= at(mean, i) * at(weights, i * HIDDEN + j);
    return shifted;
  });
  return {
    hiddenWeights: Float32Array.from(weights),
    hiddenBias: Float32Array.from(bias),
    outputWeights: Float32Array.from(w2),
    outputBias: Float32Array.from(b2),
  };
}

function statistics(flowers: readonly Flower[]): { mean: number[]; deviation: number[] } {
  const columns = Array.from({ length: INPUTS }, (_, i) =>
    flowers.map(({ measurements }) => at(measurements, i)),
  );
  const mean = columns.map((column) => column.reduce((sum, value) => sum + value, 0) / column.length);
  const deviation = columns.map((column, i) =>
    Math.sqrt(column.reduce((sum, value) => sum + (value - at(mean, i)) ** 2, 0) / column.length),
  );
  return { mean, deviation };
}

function affine(
  x: ArrayLike<number>,
  weights: ArrayLike<number>,
  bias: ArrayLike<number>,
  columns: number,
): number[] {
  return Array.from({ length: columns }, (_, j) => {
    let sum = at(bias, j);
    for (let i = 0; i < x.length; i++) sum += at(x, i) * at(weights, i * columns + j);
    return sum;
  });
}

function softmax(values: readonly number[]): number[] {
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((total, value) => total + value, 0);
  return powers.map((value) => value / sum);
}

function descend(weights: Float64Array, gradient: Float64Array, step: number): void {
  for (let i = 0; i < weights.length; i++) add(weights, i, -step * at(gradient, i));
}

function at(values: ArrayLike<number>, index: number): number {
  return values[index] as number;
}

function add(values: Float64Array, index: number, amount: number): void {
  values[index] = at(values, index) + amount;
}

/** A 32-bit generator with a published sequence; not for secrets. */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
