/** Cold starts: one sample of each kind after the other, so that whatever the machine does meets all of them. */
import { bareColdMs, spawnsPerSecond } from '../bare.ts';
import type { Docker } from '../docker.ts';
import type { Record } from '../stats.ts';
import type { Subject } from '../subject.ts';

export interface ColdParts {
  readonly record: Record;
  readonly docker: Docker | undefined;
  readonly withStems: Subject;
  readonly withoutStems: Subject;
  readonly port: number;
}

/** Functions of this name keep nothing: every call is a cold start. */
export const COLD = 'cold';

export async function coldRound(parts: ColdParts, samples: number): Promise<void> {
  const { record, docker, withStems, withoutStems, port } = parts;
  for (let i = 0; i < samples; i++) {
    record.of('B0 spawn of node hono.mjs', 'ms').add(await bareColdMs(port));
    record.of('cold with a stem', 'ms').add(await withStems.firstByteMs(COLD));
    record.of('cold with the pool empty', 'ms').add(await withoutStems.firstByteMs(COLD));
    if (docker && i % 5 === 0) record.of('B1 docker run', 'ms').add(await docker.coldMs());
  }
}

/** Every call of several callers starts a sandbox of its own, for as long as it lasts. */
export async function sustainedRound(parts: ColdParts, seconds: number): Promise<void> {
  const { record, withStems } = parts;
  record.of('B5 node -e 0 on all cores', '/s').add(await spawnsPerSecond(seconds));
  const deadline = performance.now() + seconds * 1000;
  let count = 0;
  const caller = async (): Promise<void> => {
    while (performance.now() < deadline) {
      await withStems.firstByteMs(COLD);
      count++;
    }
  };
  const started = performance.now();
  await Promise.all(Array.from({ length: 4 }, caller));
  record.of('sustained cold starts', '/s').add(count / ((performance.now() - started) / 1000));
}
