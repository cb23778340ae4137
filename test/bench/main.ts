/**
 * `npm run bench [-- --rounds 5 --only cold,heavy,warm,deploy,memory,events,swarm]`: Skiff beside bare Node and `docker run`,
 * interleaved in one run on one machine, load generator included. Prints a table and writes JSON to test/bench/out.
 * Two servers run: one with stems and leases, one without both; isolation is on in both. `swarm` is three hosts of their
 * own, and only on demand: it takes minutes.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { spawnBare, stop } from './bare.ts';
import { startChains } from './chain.ts';
import { Docker } from './docker.ts';
import { untilFirstByte } from './first-byte.ts';
import { formatReport, ratios } from './report.ts';
import { COLD, coldRound, sustainedRound } from './sections/cold.ts';
import { eventsRound } from './sections/events.ts';
import { Heavy } from './sections/heavy.ts';
import { deployImage, imageRound } from './sections/image.ts';
import { overloadRound } from './sections/overload.ts';
import { deployRound, startBenchRegistry } from './sections/deploy.ts';
import { memoryRound, stepRound } from './sections/scale.ts';
import { swarmRound } from './sections/swarm.ts';
import { WARM, warmRound } from './sections/warm.ts';
import { Record } from './stats.ts';
import { Subject } from './subject.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    samples: { type: 'string', default: '40' },
    only: { type: 'string', default: 'cold,heavy,image,sustained,warm,deploy,step,overload,memory,events' },
    events: { type: 'string', default: '8000' },
    port: { type: 'string', default: '18180' },
  },
});
const rounds = Number(values.rounds);
const samples = Number(values.samples);
const only = new Set(values.only.split(','));
const port = Number(values.port);
const apps = join(import.meta.dirname, 'apps');
const say = (text: string): boolean => process.stderr.write(`${text}\n`);

const record = new Record();
if (values.only !== 'swarm') await measureHost();
if (only.has('swarm')) for (let round = 1; round <= rounds; round++) await swarmRound(record, say, port + 60);

const machine = {
  date: new Date().toISOString(),
  cpu: cpus()[0]?.model,
  cores: cpus().length,
  kernel: release(),
  node: process.version,
};
process.stdout.write(`${JSON.stringify(machine)}\n\n${formatReport(record)}\n`);
const out = join(import.meta.dirname, 'out');
await mkdir(out, { recursive: true });
await writeFile(
  join(out, `bench-${machine.date.replaceAll(':', '-')}.json`),
  JSON.stringify(
    { machine, samples: record.all().map((one) => one.summary()), ratios: ratios(record) },
    null,
    2,
  ),
);

/** One host, beside bare Node and Docker. */
async function measureHost(): Promise<void> {
  await using stack = new AsyncDisposableStack();
  say('starting two servers …');
  const npm = only.has('deploy') ? await startBenchRegistry() : undefined;
  if (npm) stack.defer(() => npm.close());
  const leased = await Subject.start(port, { SKIFF_RUNNER_STEMS: '6' });
  stack.defer(() => leased.close());
  const queued = await Subject.start(port + 10, { SKIFF_RUNNER_STEMS: '0', SKIFF_LEASES: 'off' });
  stack.defer(() => queued.close());
  const deploying = npm && (await Subject.start(port + 40, { SKIFF_NPM_REGISTRY: npm.url }));
  if (deploying) stack.defer(() => deploying.close());
  const heavy = only.has('heavy') ? await Heavy.start(port + 80) : undefined;
  if (heavy) stack.defer(() => heavy.close());
  const bare = spawnBare(port + 20);
  stack.defer(() => stop(bare));
  await untilFirstByte(performance.now(), port + 20);
  const chains = only.has('warm') ? await startChains(port + 26) : undefined;
  if (chains) stack.defer(() => chains.close());
  const docker = only.has('cold') || only.has('deploy') ? await Docker.tryStart() : undefined;
  if (docker) stack.defer(() => docker.close());
  else say('no dockerd here: the rows against B1 are left out');

  for (const subject of [leased, queued]) {
    // As many calls in one process as the bare baseline takes.
    await subject.deploy(WARM, join(apps, 'hello'), { concurrency: 200 });
    await subject.deploy(COLD, join(apps, 'hello'), { keepAlive: 0, concurrency: 1, max: 100 });
    await subject.deploy('slow', join(apps, 'slow'));
    await subject.deploy('slow-single', join(apps, 'slow'), { concurrency: 1, max: 30, memory: '128MB' });
    await subject.deploy('idle', join(apps, 'hello'), { concurrency: 1, max: 10 });
  }

  if (only.has('image')) await deployImage(leased);

  const warm = { record, barePort: port + 20, chainPort: port + 26 };
  const cold = { record, docker, withStems: leased, withoutStems: queued, port: port + 30 };
  for (let round = 1; round <= rounds; round++) {
    say(`round ${round} of ${rounds}`);
    if (only.has('cold')) await coldRound(cold, samples);
    if (heavy) await heavy.round(record, Math.ceil(samples / 4));
    if (only.has('image')) await imageRound(record, leased, port + 30, Math.ceil(samples / 4));
    if (only.has('sustained')) await sustainedRound(cold, 3);
    if (only.has('warm')) await warmRound({ ...warm, leased, queued }, 3);
    if (npm && deploying) await deployRound(record, deploying, { docker, npm, samples: 5 });
    if (only.has('step')) {
      await stepRound(record, leased, 'slow', 'step 1 to 20 callers, 95 % reached');
      await stepRound(record, leased, 'slow-single', 'the same, one call for each sandbox');
    }
    if (only.has('overload')) await overloadRound(record, leased, 'slow-single');
    if (only.has('memory')) await memoryRound(record, leased, port + 30, 4);
    if (only.has('events')) await eventsRound(record, leased, WARM, Number(values.events));
  }
}
