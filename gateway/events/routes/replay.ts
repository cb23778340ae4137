/** Recorded events once more: as new ones, or as what was sent, for who wants to run them elsewhere. */
import type { TokenRecord } from '../../../sdk/protocol/api.ts';
import { SkiffError } from '../../../sdk/protocol/errors.ts';
import { isId } from '../../../sdk/protocol/ids.ts';
import { CAPTURED_BODY_BYTES_MAX } from '../../../sdk/protocol/limits.ts';
import { owns } from '../../middleware/auth.ts';
import type { EventHead } from '../../../infra/events/record.ts';
import { chooseTarget } from '../../invoke/routes.ts';
import type { Handlers } from '../../routes/route.ts';
import { describeReceipt } from '../accept/http-entrance.ts';
import { notThere } from '../accept/http-request.ts';
import type { EventParts } from '../parts.ts';

export function createReplayHandlers({
  store,
  payloads,
  acceptor,
  routes,
  versions,
}: EventParts): Pick<Handlers, 'replayInvocation' | 'getInvocationRequest'> {
  /** A body in the registry comes as a stream. */
  async function openRequest(id: string, token: TokenRecord | undefined) {
    const [record] = await store.getMany([id]);
    if (!record || !owns(token, record.functionName)) {
      const text = `there is no asynchronous invocation ${id}; only they are recorded`;
      throw new SkiffError('NOT_FOUND', isId('inv', id) ? text : `"${id}" is not the id of an invocation`);
    }
    const request = await store.getRequest(id);
    if (!request)
      throw new SkiffError('GONE', `what was sent for ${id} was kept as long as its result and is gone`);
    const { head, body, blob } = request;
    return { record, head, body: blob ? await payloads.open(blob) : body, bytes: blob?.bytes ?? body.length };
  }

  return {
    async replayInvocation({ id, body: { deployment: version } }, c) {
      const { record, head, body } = await openRequest(id, c.var.token);
      const { functionName } = record;
      const route = await (version === undefined
        ? routes.get(functionName)
        : versions.get(functionName, version));
      if (!route) throw notThere(functionName, version);
      const receipt = await acceptor.accept({
        deployment: chooseTarget(route, Math.random()),
        head: withoutKey(head),
        body,
        options: {},
        origin: `replay:${id}`,
        version,
      });
      return describeReceipt(receipt);
    },

    async getInvocationRequest({ id }, c) {
      const { record, head, body, bytes } = await openRequest(id, c.var.token);
      if (bytes > CAPTURED_BODY_BYTES_MAX) {
        const text = `the body of ${id} has ${bytes} bytes; up to ${CAPTURED_BODY_BYTES_MAX} are shown: replay it on the server`;
        throw new SkiffError('BODY_TOO_LARGE', text);
      }
      const chunks: Buffer[] = [];
      if (Buffer.isBuffer(body)) chunks.push(body);
      else for await (const chunk of body as AsyncIterable<Buffer>) chunks.push(chunk);
      return {
        functionName: record.functionName,
        method: head.method,
        url: head.url,
        headers: head.headers.map(([name, value]): [string, string] => [name, value]),
        bodyBase64: Buffer.concat(chunks).toString('base64'),
      };
    },
  };
}

/** It stood for the old one. */
function withoutKey(head: EventHead): EventHead {
  return { ...head, headers: head.headers.filter(([name]) => name !== 'idempotency-key') };
}
