/**
 * Takes work in and gives slots back: envelopes from the inbox and the wait queue, leased calls from links.
 * Invariant: an envelope is either started here (at most once) or answered REFUSED, which says that it provably was
 * not; expired ones are dropped, their gateway has answered already.
 */
import { SpanKind, SpanStatusCode, type Span } from '@opentelemetry/api';
import { encodeHead, FrameType, END, parseHead, parseJson, type Frame } from '../../sdk/protocol/frame.ts';
import { Header } from '../../sdk/protocol/http.ts';
import {
  encodeEnvelope,
  encodeTiming,
  parseEnvelope,
  type InvocationFailure,
  type RequestHead,
  type Route,
} from '../../sdk/protocol/invocation.ts';
import { describeSpoken, LINK_SPOKEN, speaks } from '../../sdk/protocol/versions.ts';
import { parseToken, type Dispatcher } from '../../infra/dispatch/dispatcher.ts';
import type { Log } from '../../infra/lib/log.ts';
import { startSpan, traceparentOf } from '../../infra/lib/telemetry.ts';
import type { FunctionLog } from '../log/function-log.ts';
import type { Instance, Slot } from '../pool/instance.ts';
import type { Pool } from '../pool/pool.ts';
import { Invocation, type InvocationEnd } from './invocation.ts';
import type { GatewayLink, Links } from './links.ts';

/** How long a gateway that queued work may take to open its link. */
const LINK_WAIT_MS = 2_000;
/** From this wait on the guest's deadline is written anew, so that its time-out counts from its start. */
const REWRITE_MS = 5;

/** While no larger share of a sandbox's slots is in use or waits to be offered, those that wait are not missed. */
const SPARE_SHARE = 0.5;
/** For so long at most. */
const OFFER_LATER_MS = 5;

export interface IntakeOptions {
  readonly runner: string;
  epoch(): string;
  readonly pool: Pool;
  readonly links: () => Links;
  readonly dispatcher: Dispatcher;
  readonly functionLog: FunctionLog;
  readonly log: Log;
  readonly isTracing: boolean;
  /** A call was answered; `isFirst`: by a sandbox that had not answered before. */
  onServed(isFirst: boolean): void;
}

export class Intake {
  readonly #options: IntakeOptions;
  readonly #free = new Map<Instance, Slot[]>();
  #isReleasePlanned = false;
  #offerTimer: NodeJS.Timeout | undefined;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** An inbox entry: `token\nenvelope`. */
  onInbox(entry: Buffer): void {
    const at = entry.indexOf(10);
    const token = entry.toString('latin1', 0, at);
    const { route, payload } = parseEnvelope(entry.subarray(at + 1));
    if (this.#wasRefused(route, token)) return;
    const found = this.#find(token);
    if (!found) return this.#refuse(route);
    this.run(found.instance, found.slot, route, payload, 0);
  }

  /** A leased call. */
  onLeased(link: GatewayLink, frame: Frame): void {
    const { route, payload } = parseEnvelope(frame.payload);
    const found = this.#find(route.token ?? '');
    if (!found) {
      link.connection.sendJson(FrameType.REFUSED | END, route.stream, { reason: 'slot' });
      return;
    }
    this.#begin(link, found.instance, found.slot, route, payload, 0, false);
  }

  /** A gateway misses a call that it put into our inbox. */
  onAsk(link: GatewayLink, frame: Frame): void {
    if (link.invocations.has(frame.stream)) return;
    const { token = '' } = (parseJson(frame.payload) ?? {}) as { token?: string };
    link.refused.set(`${frame.stream} ${token}`, true);
    link.connection.sendJson(FrameType.REFUSED | END, frame.stream, { reason: 'lost' });
    const found = this.#find(token);
    // Nobody else knows of this slot any more.
    if (found) void this.reoffer(found.instance, [found.slot]);
  }

  /**
   * Runs one envelope on a slot that is ours. `isQueued`: it was taken out of the queue, where its gateway believes it
   * to be; when that gateway cannot reach us it is put back, for a runner that it can.
   */
  run(instance: Instance, slot: Slot, route: Route, payload: Buffer, coldMs: number, isQueued = false): void {
    const link = this.#options.links().get(route.gw);
    if (Date.now() > route.startByMs + (link?.skewMs ?? 0)) return this.#release(instance, slot);
    if (link) return this.#begin(link, instance, slot, route, payload, coldMs, isQueued);
    slot.stream = -1;
    void this.#options
      .links()
      .waitFor(route.gw, LINK_WAIT_MS)
      .then((late) => {
        slot.stream = 0;
        if (late && instance.state !== 'gone' && Date.now() <= route.startByMs + late.skewMs) {
          this.#begin(late, instance, slot, route, payload, coldMs, isQueued);
          return;
        }
        if (isQueued && !late) this.#requeue(instance, route, payload);
        this.#release(instance, slot);
      });
  }

  #requeue(instance: Instance, route: Route, payload: Buffer): void {
    const envelope = encodeEnvelope(route, payload);
    this.#options.dispatcher
      .requeue(instance.deployment.id, route.id, route.startByMs, envelope)
      .catch((error: unknown) => this.#options.log.warn({ error, route }, 'a call could not be put back'));
  }

  /** Offers all slots of a new instance, and runs what was waiting. */
  async open(instance: Instance, orderId: string): Promise<void> {
    await this.#offer(instance, instance.slots, orderId);
  }

  /** Gives slots a new generation and offers them again: their old tokens are void from now on. */
  async reoffer(instance: Instance, slots: readonly Slot[]): Promise<void> {
    for (const slot of slots) slot.generation++;
    const free = this.#free.get(instance)?.filter((slot) => !slots.includes(slot));
    if (free) this.#free.set(instance, free);
    if (instance.state === 'active') await this.#offer(instance, slots);
  }

  #find(text: string): { instance: Instance; slot: Slot } | undefined {
    const token = parseToken(text);
    if (token.epoch !== this.#options.epoch()) return undefined;
    const instance = this.#options.pool.get(token.sandbox);
    const slot = instance?.slots[token.slot];
    if (!instance || !slot || instance.state !== 'active') return undefined;
    return slot.generation === token.generation && slot.stream === 0 ? { instance, slot } : undefined;
  }

  /** Its gateway asked for it before it was here, was told that it is not, and has sent it elsewhere. */
  #wasRefused(route: Route, token: string): boolean {
    const refused = this.#options.links().get(route.gw)?.refused;
    return refused !== undefined && refused.size > 0 && refused.has(`${route.stream} ${token}`);
  }

  #refuse(route: Route): void {
    void this.#options
      .links()
      .waitFor(route.gw, LINK_WAIT_MS)
      .then((link) => link?.connection.sendJson(FrameType.REFUSED | END, route.stream, { reason: 'slot' }));
  }

  #begin(
    link: GatewayLink,
    instance: Instance,
    slot: Slot,
    route: Route,
    payload: Buffer,
    coldMs: number,
    isFromQueue: boolean,
  ): void {
    if (!speaks(LINK_SPOKEN, route.v ?? 1)) return this.#refuseVersion(link, instance, slot, route);
    const { skewMs } = link;
    const queueMs = Math.max(0, Date.now() - skewMs - route.enqueuedMs - coldMs);
    const span = this.#startSpan(instance, route, coldMs);
    const needsRewrite = span !== undefined || queueMs + coldMs > REWRITE_MS || skewMs !== 0;
    const invocation = new Invocation({
      route,
      link: link.connection,
      instance,
      slot,
      queueMs,
      coldMs,
      span,
      onEnd: (ended, end) => this.#onEnd(link, ended, end),
    });
    link.invocations.set(route.stream, invocation);
    const deadlineMs = Math.min(Date.now() + instance.deployment.config.timeout, route.deadlineMs + skewMs);
    const isDurable = route.durable === true;
    if (instance.channel.mayCall(isDurable)) {
      instance.channel.begin(slot.stream, {
        line: link.calls,
        invocation: route.id,
        depth: route.depth ?? 0,
        deadlineMs,
        skewMs,
        traceparent: traceparentOf(span) ?? route.traceparent,
        isDurable,
      });
    }
    invocation.start(needsRewrite ? rewriteHead(payload, deadlineMs, span) : payload, isFromQueue);
  }

  /** Another runner of this version could not read it either: its caller is told. */
  #refuseVersion({ connection }: GatewayLink, instance: Instance, slot: Slot, route: Route): void {
    const failure: InvocationFailure = {
      cause: 'platform',
      message: `its gateway speaks protocol ${route.v}, runner ${this.#options.runner} ${describeSpoken(LINK_SPOKEN)}; upgrade the older one`,
      started: false,
    };
    const timing = encodeTiming({ queueMs: 0, coldMs: 0, execMs: 0 });
    connection.send(FrameType.ERROR | END, route.stream, Buffer.from(JSON.stringify(failure)), timing);
    if (route.token === undefined) this.#release(instance, slot);
  }

  #startSpan(instance: Instance, route: Route, coldMs: number): Span | undefined {
    if (!this.#options.isTracing || !route.traceparent) return undefined;
    const { functionName, id } = instance.deployment;
    return startSpan(`run ${functionName}`, {
      kind: SpanKind.CONSUMER,
      traceparent: route.traceparent,
      attributes: {
        'faas.name': functionName,
        'faas.version': id,
        'faas.instance': instance.guest.id,
        'faas.invocation_id': route.id,
        'faas.coldstart': coldMs > 0,
        'faas.trigger': 'http',
      },
    });
  }

  #onEnd(link: GatewayLink, invocation: Invocation, end: InvocationEnd): void {
    link.invocations.delete(invocation.route.stream);
    const { instance, span } = invocation;
    if (!end.cause) this.#options.onServed(instance.uses === 1);
    else {
      this.#options.functionLog.write(instance.deployment, {
        level: 'error',
        source: 'platform',
        message: end.stack ?? `${end.cause}: ${end.message ?? ''}`,
        fields: { cause: end.cause },
        invocation: invocation.invocationId,
        sandbox: instance.guest.id,
      });
      span?.setStatus({ code: SpanStatusCode.ERROR, message: end.cause });
    }
    span?.end();
    if (instance.deployment.config.keepAlive === 0) this.#endWhenQuiet(instance);
    // A leased slot stays with its gateway.
    else if (invocation.route.token === undefined) this.#release(instance, invocation.slot);
  }

  /** Nothing is kept: the sandbox ends with its last call. Slots somebody still holds are refused. */
  #endWhenQuiet(instance: Instance): void {
    if (instance.busySlots === 0) instance.drain();
  }

  /**
   * Slots freed within one turn are offered together. While a sandbox has many others they wait a moment longer, as an
   * offer costs more than a call's way through here.
   */
  #release(instance: Instance, slot: Slot): void {
    if (instance.state !== 'active') return;
    const slots = this.#free.get(instance) ?? [];
    if (slots.push(slot) === 1) this.#free.set(instance, slots);
    if (slots.length + instance.busySlots <= instance.slots.length * SPARE_SHARE) {
      this.#offerTimer ??= setTimeout(this.#offerFree, OFFER_LATER_MS);
    } else if (!this.#isReleasePlanned) {
      this.#isReleasePlanned = true;
      setImmediate(this.#offerFree);
    }
  }

  readonly #offerFree = (): void => {
    this.#isReleasePlanned = false;
    clearTimeout(this.#offerTimer);
    this.#offerTimer = undefined;
    const freed = [...this.#free];
    this.#free.clear();
    for (const [instance, slots] of freed) void this.#offer(instance, slots);
  };

  async #offer(instance: Instance, slots: readonly Slot[], orderId?: string): Promise<void> {
    if (instance.state !== 'active') return;
    const tokens = slots.map((slot) => instance.token(slot));
    const { unreachable } = this.#options.links();
    const live = { live: instance.liveMember, unreachable, ...(orderId === undefined ? {} : { orderId }) };
    try {
      const envelopes = await this.#options.dispatcher.offer(instance.deployment.id, tokens, live);
      const coldMs = orderId === undefined ? 0 : instance.coldMs;
      for (const [index, envelope] of envelopes.entries()) {
        const { route, payload } = parseEnvelope(envelope);
        const slot = slots[index] as Slot;
        if (this.#wasRefused(route, tokens[index] as string)) continue;
        if (instance.state !== 'active') this.#refuse(route);
        else
          this.run(
            instance,
            slot,
            route,
            payload,
            Math.min(coldMs, Math.max(0, Date.now() - route.enqueuedMs)),
            true,
          );
      }
    } catch (error) {
      // Redis is away: the slots are ours until it is back.
      this.#options.log.warn({ error, deployment: instance.deployment.id }, 'slots could not be offered');
      setTimeout(
        () =>
          void this.reoffer(
            instance,
            slots.filter((slot) => slot.stream === 0),
          ),
        500,
      ).unref();
    }
  }
}

function rewriteHead(payload: Buffer, deadlineMs: number, span: Span | undefined): Buffer {
  const { head, body } = parseHead(payload);
  const changed: Record<string, unknown> = { ...(head as RequestHead), deadlineMs };
  const traceparent = traceparentOf(span);
  if (traceparent) {
    changed['traceparent'] = traceparent;
    const headers = (head as RequestHead).headers.filter(([name]) => name !== Header.traceparent);
    changed['headers'] = [...headers, [Header.traceparent, traceparent]];
  }
  return encodeHead(changed, body);
}
