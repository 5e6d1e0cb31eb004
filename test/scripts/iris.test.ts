import { describe, expect, it } from 'vitest';
import { predictIris, readFlowers, SPECIES, splitFlowers, trainIris } from '../../scripts/model/iris.ts';

describe("the demonstration's model", () => {
  const { training, held } = splitFlowers(readFlowers());

  it("is trained on Fisher's 150 flowers, less the 30 that are kept out", () => {
    expect([training.length, held.length]).toEqual([120, 30]);
    expect(new Set(held.map(({ species }) => species)).size).toBe(3);
  });

  it('is the same network every time', () => {
    expect(trainIris(training)).toEqual(trainIris(training));
  });

  it('knows most flowers that it has not seen', () => {
    const network = trainIris(training);
    const right = held.filter(({ measurements, species }) => {
      const probabilities = predictIris(network, measurements);
      return SPECIES[probabilities.indexOf(Math.max(...probabilities))] === species;
    });
    expect(right.length).toBeGreaterThanOrEqual(27);
  });
});
