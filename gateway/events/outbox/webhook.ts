/**
 * One POST of a webhook, signed as Standard Webhooks says (https://www.standardwebhooks.com): headers webhook-id,
 * webhook-timestamp and webhook-signature, an HMAC-SHA256 over `id.timestamp.body`. Redirects are not followed: they
 * could lead anywhere.
 */
import { createHmac } from 'node:crypto';
import type { BlockList } from 'node:net';
import { Agent, request } from 'undici';
import { WEBHOOK_MS_MAX } from '../../../sdk/protocol/limits.ts';
import { assertLiteralAllowed, createGuardedLookup } from './webhook-address.ts';

export interface WebhookMessage {
  readonly url: string;
  /** The same for every try. */
  readonly id: string;
  readonly contentType: string;
  readonly body: Buffer;
  readonly secret: string | undefined;
}

export interface WebhookSender {
  /** Status of the answer. Rejects when there is none. */
  send(message: WebhookMessage): Promise<number>;
  close(): Promise<void>;
}

export function openWebhookSender(opened: BlockList): WebhookSender {
  const agent = new Agent({
    connect: { lookup: createGuardedLookup(opened), timeout: WEBHOOK_MS_MAX },
    headersTimeout: WEBHOOK_MS_MAX,
    bodyTimeout: WEBHOOK_MS_MAX,
    // A destination is told now and then: kept connections would only be found dead.
    keepAliveTimeout: 1_000,
  });
  return {
    async send(message) {
      assertLiteralAllowed(new URL(message.url), opened);
      const { statusCode, body } = await request(message.url, {
        method: 'POST',
        dispatcher: agent,
        headers: createHeaders(message, Math.floor(Date.now() / 1000)),
        body: message.body,
        signal: AbortSignal.timeout(WEBHOOK_MS_MAX),
      });
      // The answer's body is nobody's business, and may be endless.
      body.on('error', () => {}).destroy();
      return statusCode;
    },
    close: () => agent.close(),
  };
}

export function createHeaders(message: WebhookMessage, timestamp: number): Record<string, string> {
  const { id, contentType, body, secret } = message;
  return {
    'content-type': contentType,
    'user-agent': 'skiff-webhook/1',
    'webhook-id': id,
    'webhook-timestamp': String(timestamp),
    ...(secret === undefined ? {} : { 'webhook-signature': sign(secret, id, timestamp, body) }),
  };
}

/** `whsec_` and base64 is a key as Standard Webhooks writes it; anything else is used as it is. */
function sign(secret: string, id: string, timestamp: number, body: Buffer): string {
  const key = secret.startsWith('whsec_') ? Buffer.from(secret.slice(6), 'base64') : Buffer.from(secret);
  const mac = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64');
  return `v1,${mac}`;
}
