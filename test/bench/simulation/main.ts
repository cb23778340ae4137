/** `npm run simulate [-- --nodes 1000 --functions 10000 --minutes 10 --seed 1]`: prints what placement and keep-alive do. */
import { parseArgs } from 'node:util';
import { Simulation } from './simulation.ts';

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '1000' },
    functions: { type: 'string', default: '10000' },
    minutes: { type: 'string', default: '10' },
    gigabytes: { type: 'string', default: '4' },
    seed: { type: 'string', default: '1' },
  },
});
const minutes = Number(values.minutes);
const began = performance.now();
const result = new Simulation({
  nodes: Number(values.nodes),
  functions: Number(values.functions),
  durationMs: minutes * 60_000,
  warmUpMs: (minutes * 60_000) / 2,
  nodeMemoryBytes: Number(values.gigabytes) * 1024 ** 3,
  seed: Number(values.seed),
}).run();
const percent = (share: number): string => `${(share * 100).toFixed(2)} %`;
const lines = {
  'nodes, functions, seed': `${values.nodes}, ${values.functions}, ${values.seed}`,
  'virtual time counted': `${minutes / 2} of ${minutes} minutes, in ${((performance.now() - began) / 1_000).toFixed(1)} s`,
  calls: `${result.calls}`,
  'cold calls': percent(result.coldCalls / result.calls),
  'starts, evictions, without room': `${result.starts}, ${result.evictions}, ${result.refused}`,
  'imbalance of memory (deviation / mean)': percent(result.imbalance),
  'fullest node / mean': result.peak.toFixed(2),
  'nodes with the image, for each function': result.imagesPerFunction.toFixed(2),
  'placement decisions': `${result.decisions}, ${Math.round(result.decisionsPerSecond)} a second on one core`,
};
for (const [name, text] of Object.entries(lines)) process.stdout.write(`${name.padEnd(42)}${text}\n`);
