/** Code blocks of the Markdown of this repository, with what their info strings say. */
import { type SourceFile, files } from './source-tree.ts';

export interface CodeBlock {
  readonly document: string;
  /** Of the opening fence, from 1. */
  readonly line: number;
  readonly language: string;
  /** Where it is written to, for those that come after it: `file=name.ts`. */
  readonly file: string | undefined;
  /** Why it cannot be run here: `not-run="…"`. */
  readonly notRun: string | undefined;
  readonly text: string;
}

const FENCE = /^```(\S*) *([^\n]*)\n([^]*?)^```$/gm;

export function readBlocks({ path, text }: SourceFile): CodeBlock[] {
  return [...text.matchAll(FENCE)].map((match) => {
    const [, language = '', info = '', body = ''] = match;
    return {
      document: path,
      line: text.slice(0, match.index).split('\n').length,
      language,
      file: /\bfile=(\S+)/.exec(info)?.[1],
      notRun: /\bnot-run="([^"]+)"/.exec(info)?.[1],
      text: body,
    };
  });
}

/** Of all documents that readers meet; fixtures are none. */
export const documents: readonly SourceFile[] = files.filter(
  ({ path }) => path.endsWith('.md') && !path.startsWith('test/fixtures/'),
);

/** One command of a console block, and what it is said to print. */
export interface Command {
  readonly text: string;
  readonly expected: string;
}

/** `$ command`, and until the next one what it prints, where `…` stands for anything. */
export function readCommands(text: string): Command[] {
  const commands: { text: string; expected: string }[] = [];
  for (const line of text.split('\n')) {
    const last = commands.at(-1);
    if (line.startsWith('$ ')) commands.push({ text: line.slice(2), expected: '' });
    else if (last?.text.endsWith('\\')) last.text += `\n${line}`;
    else if (last && line !== '') last.expected += `${line}\n`;
  }
  return commands;
}

export function matches(actual: string, expected: string): boolean {
  const parts = expected.trim().split('…');
  const pattern = parts.map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('[^]*');
  return new RegExp(`^${pattern}$`).test(actual.trim());
}
