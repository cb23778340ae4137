/** Turns esbuild's messages into text for users: file, line, column and code frame, and no path of this host. */
import { posix } from 'node:path';
import type { Message } from 'esbuild';
import type { Esbuild } from './engine.ts';

const MESSAGES_SHOWN_MAX = 20;
const UNRESOLVED = /^Could not resolve "((?:\.{0,2}\/|\.\.$)[^"]*)"$/;
const BARE_IMPORT = /^Could not resolve "((?:@[^/"]+\/)?[^@./"][^/"]*)(?:\/[^"]*)?"$/;

export interface MessageContext {
  readonly esbuild: Esbuild;
  /** Takes paths of this host out of a text. */
  readonly hide: (text: string) => string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

/** One text for each message, at most 20 and a line that says how many more. */
export async function describeMessages(
  messages: readonly Message[],
  kind: 'error' | 'warning',
  context: MessageContext,
): Promise<string[]> {
  const shown = messages.slice(0, MESSAGES_SHOWN_MAX).map((message) => adapt(message, context));
  const texts = await context.esbuild.formatMessages(shown, { kind, color: false, terminalWidth: 100 });
  const result = texts.map((text) => context.hide(text).trim());
  if (messages.length > MESSAGES_SHOWN_MAX) result.push(`and ${messages.length - MESSAGES_SHOWN_MAX} more`);
  return result;
}

/** esbuild's advice names esbuild's own options; a user of Skiff has package.json. */
function adapt(message: Message, context: MessageContext): Message {
  const path = UNRESOLVED.exec(message.text)?.[1];
  if (path !== undefined && leadsOut(message.location?.file ?? '', path)) {
    return {
      ...message,
      text: `"${path}" is outside the function's folder; copy what the function needs into it`,
      notes: [],
    };
  }
  const name = BARE_IMPORT.exec(message.text)?.[1];
  if (name === undefined) return { ...message, pluginName: '' };
  const text = Object.hasOwn(context.dependencies, name)
    ? `"${name}" is in package.json but was not installed, or has no such file.`
    : Object.hasOwn(context.devDependencies, name)
      ? `"${name}" is in "devDependencies", which are not installed; move it to "dependencies".`
      : `Add "${name}" to "dependencies" in package.json.`;
  return { ...message, notes: [{ text, location: null }] };
}

function leadsOut(from: string, path: string): boolean {
  return path.startsWith('/') || `${posix.join(posix.dirname(from), path)}/`.startsWith('../');
}
