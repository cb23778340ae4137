/** A builder as a process of its own, for tests that kill it: URLs of Redis and registry, lock in ms as arguments. */
import { openTestBuilder } from './builder.ts';

const [redisUrl = '', registryUrl = '', lockMs = '1000'] = process.argv.slice(2);
const builder = await openTestBuilder({ redisUrl, registryUrl, worker: { lockMs: Number(lockMs) } });
builder.worker.start();
process.stdout.write(`${builder.dataDir}\n`);
