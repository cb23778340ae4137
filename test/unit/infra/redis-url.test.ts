import { expect, test } from 'vitest';
import { parseRedisUrl } from '../../../infra/lib/redis.ts';

test('sentinels, the name of the primary, credentials and database', () => {
  expect(
    parseRedisUrl(
      'redis+sentinel://ada:p%40ss@10.0.0.1:26380,store-b,[::1]:26381/skiff/2?sentinelPassword=s',
    ),
  ).toMatchObject({
    sentinels: [
      { host: '10.0.0.1', port: 26_380 },
      { host: 'store-b', port: 26_379 },
      { host: '::1', port: 26_381 },
    ],
    name: 'skiff',
    role: 'master',
    username: 'ada',
    password: 'p@ss',
    db: 2,
    sentinelPassword: 's',
    failoverDetector: true,
  });
});

test.each(['redis+sentinel://', 'redis+sentinel://a:1', 'redis+sentinel://a:1/', 'redis+sentinel:///skiff'])(
  '%s is refused with the form it should have',
  (url) =>
    expect(() => parseRedisUrl(url)).toThrow(
      /names no sentinels or no primary; write redis\+sentinel:\/\/a:26379,b:26379\/name/,
    ),
);

test('other URLs are what they were', () => {
  expect(parseRedisUrl('redis://:pw@h:1/3')).toMatchObject({ host: 'h', port: 1, password: 'pw', db: 3 });
  expect(parseRedisUrl('rediss://h')).toMatchObject({ host: 'h', port: 6379, tls: {} });
});
