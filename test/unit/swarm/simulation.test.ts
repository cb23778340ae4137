import { expect, it } from 'vitest';
import { Simulation } from '../../bench/simulation/simulation.ts';

const options = {
  nodes: 20,
  functions: 200,
  durationMs: 600_000,
  warmUpMs: 300_000,
  nodeMemoryBytes: 4 * 1024 ** 3,
  seed: 7,
};

it('keeps nearly all calls warm, few copies of each image, and no node alone with the work', () => {
  const result = new Simulation(options).run();
  expect(result.calls).toBeGreaterThan(5_000);
  expect(result.coldCalls / result.calls).toBeLessThan(0.02);
  expect(result.imagesPerFunction).toBeLessThan(3.5);
  expect(result.peak).toBeLessThan(4);
  expect(result.refused).toBe(0);
});

it('evicts, and starts more often, when memory is scarce', () => {
  const roomy = new Simulation(options).run();
  const scarce = new Simulation({ ...options, nodeMemoryBytes: 1024 ** 3 }).run();
  expect(scarce.evictions).toBeGreaterThan(roomy.evictions);
  expect(scarce.starts).toBeGreaterThan(roomy.starts);
});

it('is the same for the same seed', () => {
  const [one, other] = [new Simulation(options).run(), new Simulation(options).run()];
  expect({ ...other, decisionsPerSecond: 0 }).toEqual({ ...one, decisionsPerSecond: 0 });
});
