import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  codeOfCause,
  failureOfCause,
  tryBuildHeaders,
  tryReadHead,
} from '../../../gateway/invoke/answer/answer.ts';
import { AnswerHeads } from '../../../gateway/invoke/answer/answer-heads.ts';
import { ERRORS, type FailureCause } from '../../../sdk/protocol/errors.ts';
import { HOP_BY_HOP, PLATFORM_RESPONSE_HEADERS } from '../../../sdk/protocol/http.ts';

const own = {
  id: 'inv-1',
  deployment: 'dep-1',
  timing: { queueMs: 0, coldMs: 0, execMs: 1.234 },
  contentLength: 5,
};

function flatOf(headers: unknown): string[] | undefined {
  const head = tryReadHead({ status: 200, headers });
  return head && tryBuildHeaders(head, own);
}

describe('a guest\u2019s response head', () => {
  it.each([
    [{ status: 200, headers: [] }, true],
    [{ status: 99, headers: [] }, false],
    [{ status: 100, headers: [] }, false],
    [{ status: 600, headers: [] }, false],
    [{ status: 200.5, headers: [] }, false],
    [{ status: '200', headers: [] }, false],
    [{ status: 200 }, false],
    [null, false],
    [[], false],
  ])('%j is valid: %s', (head, isValid) => {
    expect(tryReadHead(head) !== undefined).toBe(isValid);
  });

  it('can set neither hop-by-hop nor platform headers nor a length of its own for a whole body', () => {
    const names = [...HOP_BY_HOP, ...PLATFORM_RESPONSE_HEADERS].map(
      (name) => [name.toUpperCase(), 'forged'] as const,
    );
    const flat = flatOf([...names, ['content-length', '999'], ['x-mine', 'kept']]) ?? [];
    expect(flat).not.toContain('forged');
    expect(flat).not.toContain('999');
    expect(flat.join(' ')).toContain('x-mine kept content-length 5 skiff-invocation-id inv-1');
  });

  it('whatever a guest sends as headers, the result is a list of strings or undefined', () => {
    fc.assert(
      fc.property(fc.array(fc.anything()), (headers) => {
        const flat = flatOf(headers);
        expect(flat === undefined || flat.every((one) => typeof one === 'string')).toBe(true);
      }),
    );
  });

  it('adds our Server-Timing to the function\u2019s', () => {
    const flat = flatOf([['server-timing', 'db;dur=3']]) ?? [];
    expect(flat[flat.indexOf('server-timing') + 1]).toBe('db;dur=3, queue;dur=0, cold;dur=0, exec;dur=1.23');
  });
});

describe('heads of one deployment after the other', () => {
  it('are each what their own text says', () => {
    const heads = new AnswerHeads();
    const texts = [
      '{"status":200,"headers":[["x-a","1"]]}',
      '{"status":200,"headers":[["x-a","1"]]}',
      '{"status":404,"headers":[]}',
      '{"status":200,"headers":',
      '{"status":99,"headers":[]}',
      '{"status":99,"headers":[]}',
      '{"status":200,"headers":[["x-a","1"]]}',
    ];
    expect(texts.map((text) => heads.tryRead('dep-1', text)?.status)).toEqual([
      200,
      200,
      404,
      undefined,
      undefined,
      undefined,
      200,
    ]);
    expect(heads.tryRead('dep-2', '{"status":204,"headers":[]}')?.status).toBe(204);
    expect(heads.tryRead('dep-1', texts[0] as string)?.headers).toEqual(['x-a', '1']);
  });
});

describe('failures', () => {
  it.each<FailureCause>([
    'handler_error',
    'timeout',
    'out_of_memory',
    'crash',
    'cold_start_failed',
    'queue_expired',
    'throttled',
  ])('%s has an error that reports the same cause', (cause) => {
    const row = ERRORS[codeOfCause(cause)];
    expect('cause' in row ? row.cause : undefined).toBe(cause);
  });

  it('a caller never reads what a handler threw', () => {
    expect(failureOfCause('handler_error', 'password is x').detail).not.toContain('password');
    expect(failureOfCause('timeout', 'took longer').detail).toBe('took longer');
  });
});
