/** One question to a Redis or a Sentinel that may be away. */
import { Redis } from 'ioredis';

interface RedisPlace {
  readonly host: string;
  readonly port: number;
  readonly password?: string;
  readonly tls?: { readonly ca: string };
  readonly connectTimeout?: number;
  readonly commandTimeout?: number;
}

/** Undefined when it does not answer. */
export async function askRedis<Value>(
  place: RedisPlace,
  question: (redis: Redis) => Promise<Value>,
): Promise<Value | undefined> {
  const redis = new Redis({ ...place, lazyConnect: true, retryStrategy: () => null });
  redis.on('error', () => {});
  try {
    await redis.connect();
    return await question(redis);
  } catch {
    return undefined;
  } finally {
    redis.disconnect();
  }
}
