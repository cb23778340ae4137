/**
 * Heads of answers as they were read last. A function that is called often answers with the same head most of the time:
 * then it is compared, not parsed and checked again. Invariant: what is given is what the text says, whoever sent it.
 */
import { LRUCache } from 'lru-cache';
import { tryReadHead, type AnswerHead } from './answer.ts';

interface Read {
  text: string;
  head: AnswerHead | undefined;
}

const DEPLOYMENTS_MAX = 1_000;
/** Longer ones are few, and would be kept for nothing. */
const CHARACTERS_MAX = 2_048;

export class AnswerHeads {
  /** By deployment. */
  readonly #last = new LRUCache<string, Read>({ max: DEPLOYMENTS_MAX });

  /** `text` is JSON. Undefined when it is not a head. */
  tryRead(deployment: string, text: string): AnswerHead | undefined {
    const last = this.#last.get(deployment);
    if (last?.text === text) return last.head;
    const head = tryParse(text);
    if (text.length > CHARACTERS_MAX) return head;
    if (!last) this.#last.set(deployment, { text, head });
    else {
      last.text = text;
      last.head = head;
    }
    return head;
  }
}

function tryParse(text: string): AnswerHead | undefined {
  try {
    return tryReadHead(JSON.parse(text));
  } catch {
    return undefined;
  }
}
