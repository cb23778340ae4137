/**
 * What all gateways and event processes remember of calls: each keeps its own (call-history.ts), and whoever is asked for a
 * trace asks the others, over the fast store. Invariant: a call costs nothing for this; only a question does.
 * An answer that does not come in time is left out: a trace may then have fewer spans, and never wrong ones.
 */
import type { Redis } from 'ioredis';
import { fast as keys } from '../../infra/contract/keys.ts';
import type { CallHistory, CallMemory, CallQuestion } from './call-history.ts';

export interface CallPeersOptions {
  /** Of this process. */
  readonly id: string;
  readonly history: CallHistory;
  readonly redis: Redis;
  /** A connection for pub/sub; may be shared. */
  readonly subscriber: Redis;
}

interface Asked {
  readonly calls: CallMemory[];
  answers: number;
  /** How many others were asked. */
  expected?: number;
  readonly finish: () => void;
}

const ANSWER_MS_MAX = 300;
/** A chain that goes from gateway to gateway is followed this far. */
const ROUNDS_MAX = 5;

export class CallPeers {
  readonly #options: CallPeersOptions;
  readonly #asked = new Map<number, Asked>();
  #count = 0;

  constructor(options: CallPeersOptions) {
    this.#options = options;
  }

  async open(): Promise<void> {
    const { id, subscriber } = this.#options;
    const answers = keys.callAnswers(id);
    subscriber.on('message', (channel: string, text: string) => {
      if (channel === answers) this.#onAnswer(text);
      else if (channel === keys.callQuestions) this.#onQuestion(text);
    });
    await subscriber.subscribe(keys.callQuestions, answers);
  }

  /** The invocation and all that was called in its course, wherever: by start. */
  async findFamily(id: string): Promise<CallMemory[]> {
    const found = new Map<string, CallMemory>();
    let ids = [id];
    for (let round = 0; round < ROUNDS_MAX && ids.length > 0; round++) {
      const known = new Set([id, ...[...found.values()].map((call) => call.id)]);
      for (const call of await this.ask({ ids })) found.set(`${call.id} ${call.receivedMs}`, call);
      ids = [...found.values()].map((call) => call.id).filter((one) => !known.has(one));
    }
    return [...found.values()].toSorted((a, b) => a.receivedMs - b.receivedMs);
  }

  /** In no order. */
  async ask(question: CallQuestion): Promise<CallMemory[]> {
    const { id, history, redis } = this.#options;
    const number = ++this.#count;
    const { promise, resolve } = Promise.withResolvers<void>();
    const asked: Asked = { calls: [], answers: 0, finish: resolve };
    this.#asked.set(number, asked);
    const timer = setTimeout(resolve, ANSWER_MS_MAX);
    try {
      const count = await redis.publish(keys.callQuestions, JSON.stringify({ from: id, number, question }));
      // One of them is this process. A cluster counts the subscribers of one server alone.
      if (!redis.isCluster) asked.expected = count - 1;
      if (!isWhole(asked)) await promise;
    } catch {
      // Without the fast store there is still what this process knows.
    } finally {
      clearTimeout(timer);
      this.#asked.delete(number);
    }
    return [...history.answer(question), ...asked.calls];
  }

  #onAnswer(text: string): void {
    const { number, calls } = JSON.parse(text) as { number: number; calls: CallMemory[] };
    const asked = this.#asked.get(number);
    if (!asked) return;
    asked.calls.push(...calls);
    asked.answers++;
    if (isWhole(asked)) asked.finish();
  }

  #onQuestion(text: string): void {
    const { id, history, redis } = this.#options;
    const { from, number, question } = JSON.parse(text) as {
      from: string;
      number: number;
      question: CallQuestion;
    };
    if (from === id) return;
    const answer = JSON.stringify({ number, calls: history.answer(question) });
    redis.publish(keys.callAnswers(from), answer).catch(() => {});
  }
}

function isWhole({ answers, expected = Number.POSITIVE_INFINITY }: Asked): boolean {
  return answers >= expected;
}
