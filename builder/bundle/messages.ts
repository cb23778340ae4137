/** Turns esbuild's messages into text for users: file, line, column and code frame, and no path of this host. */
import { formatMessages, type Message } from 'esbuild';

const MESSAGES_SHOWN_MAX = 20;
const BARE_IMPORT = /^Could not resolve "((?:@[^/"]+\/)?[^@./"][^/"]*)(?:\/[^"]*)?"$/;

export interface MessageContext {
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
  const texts = await formatMessages(shown, { kind, color: false, terminalWidth: 100 });
  const result = texts.map((text) => context.hide(text).trim());
  if (messages.length > MESSAGES_SHOWN_MAX) result.push(`and ${messages.length - MESSAGES_SHOWN_MAX} more`);
  return result;
}

/** esbuild's advice names esbuild's own options; a user of Skiff has package.json. */
function adapt(message: Message, context: MessageContext): Message {
  const name = BARE_IMPORT.exec(message.text)?.[1];
  if (name === undefined) return { ...message, pluginName: '' };
  const text = Object.hasOwn(context.dependencies, name)
    ? `"${name}" is in package.json but was not installed, or has no such file.`
    : Object.hasOwn(context.devDependencies, name)
      ? `"${name}" is in "devDependencies", which are not installed; move it to "dependencies".`
      : `Add "${name}" to "dependencies" in package.json.`;
  return { ...message, notes: [{ text, location: null }] };
}
