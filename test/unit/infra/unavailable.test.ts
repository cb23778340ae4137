import { describe, expect, it } from 'vitest';
import { isServiceAway } from '../../../infra/lib/unavailable.ts';

const withCode = (code: string, syscall?: string) => Object.assign(new Error(code), { code, syscall });

describe('a service is away', () => {
  it.each([
    withCode('ECONNREFUSED'),
    withCode('ENOENT', 'connect'),
    new Error('Connection is closed.'),
    new Error("Stream isn't writeable and enableOfflineQueue options is false"),
    new Error('Command timed out'),
    new Error('LOADING Redis is loading the dataset in memory'),
    new Error("OOM command not allowed when used memory > 'maxmemory'."),
    new Error('MISCONF Redis is configured to save RDB snapshots'),
    Object.assign(new Error('Reached the max retries per request limit'), {
      name: 'MaxRetriesPerRequestError',
    }),
    new Error('the registry', { cause: new TypeError('fetch failed', { cause: withCode('ECONNRESET') }) }),
    new AggregateError([withCode('ECONNREFUSED')]),
  ])('on $message', (error) => expect(isServiceAway(error)).toBe(true));

  it.each([
    withCode('ENOENT', 'open'),
    new Error('WRONGTYPE Operation against a key holding the wrong kind of value'),
    new Error('ERR Error running script'),
    new TypeError('x is not a function'),
    'Connection is closed.',
    undefined,
  ])('but not on %s', (error) => expect(isServiceAway(error)).toBe(false));

  it('does not follow a cycle of causes for ever', () => {
    const error = new Error('a');
    error.cause = error;
    expect(isServiceAway(error)).toBe(false);
  });
});
