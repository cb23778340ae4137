import { expect, it } from 'vitest';
import { classify, describeReason, toProblemResponse } from '../../../gateway/middleware/problem.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';

it('keeps our own errors and makes INTERNAL of foreign ones without their text', () => {
  const own = new SkiffError('CONFLICT', 'moved');
  expect(classify(own)).toBe(own);
  const foreign = classify(new Error('password=hunter2'));
  expect(foreign.code).toBe('INTERNAL');
  expect(foreign.message).not.toContain('hunter2');
  expect((foreign.cause as Error).message).toContain('hunter2');
});

it('makes UNAVAILABLE of a lost store', () => {
  expect(classify(new Error('Connection is closed.')).code).toBe('UNAVAILABLE');
});

it('writes a problem document with details, request id and the headers of its status', async () => {
  const busy = toProblemResponse(new SkiffError('OVERLOADED', 'busy', { details: { waiting: 3 } }), 'req-1');
  expect(busy.status).toBe(503);
  expect(busy.headers.get('content-type')).toBe('application/problem+json');
  expect(busy.headers.get('retry-after')).toBe('1');
  expect(await busy.json()).toMatchObject({
    type: 'urn:skiff:error:overloaded',
    code: 'OVERLOADED',
    detail: 'busy',
    requestId: 'req-1',
    details: { waiting: 3 },
  });
  const unknown = toProblemResponse(new SkiffError('UNAUTHENTICATED', 'who?'), 'req-2');
  expect(unknown.headers.get('www-authenticate')).toMatch(/^Bearer/);
});

it('shows the innermost reason in one line', () => {
  expect(describeReason(new Error('outer', { cause: new Error('connect ECONNREFUSED 127.0.0.1:1') }))).toBe(
    'connect ECONNREFUSED 127.0.0.1:1',
  );
});
