/** What is said of a call to its function (head), to its runner (route) and to the traces (span). Pure but for the span. */
import { LINK_SPOKEN } from '../../sdk/protocol/versions.ts';
import type { IncomingMessage } from 'node:http';
import { SpanKind, type Span } from '@opentelemetry/api';
import type { Deployment } from '../../sdk/protocol/api.ts';
import { encodeHeadText } from '../../sdk/protocol/frame.ts';
import { Header } from '../../sdk/protocol/http.ts';
import type { RequestHead } from '../../sdk/protocol/invocation.ts';
import type { Scaling } from '../../infra/dispatch/dispatcher.ts';
import { startSpan, traceparentOf } from '../../infra/lib/telemetry.ts';
import type { Call } from './call.ts';
import type { CallRequest } from './caller.ts';
import { buildHeaders } from './request-head.ts';

const TRACEPARENT = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

export function startCallSpan(request: CallRequest, deployment: Deployment): Span {
  const { traceparent } = request.headers;
  return startSpan(`${request.method} /f/${deployment.functionName}`, {
    kind: SpanKind.SERVER,
    ...(typeof traceparent === 'string' ? { traceparent } : {}),
    attributes: {
      'http.request.method': request.method ?? '',
      'faas.invoked_name': deployment.functionName,
      'faas.trigger': 'http',
    },
  });
}

export function buildHead(call: Call, request: IncomingMessage, url: string): RequestHead {
  const headers = buildHeaders(request, false);
  const traceparent = traceparentFor(call);
  headers.push([Header.invocationId, call.id]);
  if (traceparent) headers.push(['traceparent', traceparent]);
  return {
    id: call.id,
    method: call.request.method ?? 'GET',
    url,
    headers,
    deadlineMs: call.receivedMs + call.deployment.config.timeout,
    ...(traceparent ? { traceparent } : {}),
  };
}

/**
 * A `Route` as JSON; `token` is the leased slot to use. Put together by hand, which takes half as long as an object and
 * its serialisation: its texts are ids, tokens and a checked traceparent, none of which has a character to be escaped.
 */
export function formatRoute(call: Call, gateway: string, token?: string): string {
  const { deployment, stream, startByMs } = call;
  const deadlineMs = Math.min(startByMs + deployment.config.timeout, call.deadlineMs);
  const traceparent = traceparentFor(call);
  let text = `{"v":${LINK_SPOKEN.protocolMin},"id":"${call.id}","dep":"${deployment.id}","gw":"${gateway}","stream":${stream},"startByMs":${startByMs},"deadlineMs":${deadlineMs},"more":${call.body !== undefined},"enqueuedMs":${call.receivedMs}`;
  if (call.depth > 0) text += `,"depth":${call.depth}`;
  if (traceparent !== undefined) text += `,"traceparent":"${traceparent}"`;
  if (call.isDurable) text += ',"durable":true';
  if (token !== undefined) text += `,"token":"${token}"`;
  return `${text}}`;
}

/** The envelope of a call whose payload is there, for the queue. */
export function enclose(call: Call, gateway: string): Buffer {
  const { head, body } = call.payload as NonNullable<Call['payload']>;
  return encodeHeadText(formatRoute(call, gateway), encodeHeadText(head, body));
}

export function scalingOf(deployment: Deployment): Scaling {
  const { concurrency, max, min } = deployment.config;
  return { deployment: deployment.id, concurrency, max, min };
}

/** Ours when we trace, else the client's as it came. */
function traceparentFor(call: Call): string | undefined {
  if (call.span) return traceparentOf(call.span);
  const { traceparent } = call.request.headers;
  return typeof traceparent === 'string' && TRACEPARENT.test(traceparent) ? traceparent : undefined;
}
