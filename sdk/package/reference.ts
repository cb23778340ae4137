/**
 * The reference of the package in Markdown, from its published declarations: every export of an entry with its docstring
 * and its signature, comments of members included. Deliberately absent: prose of its own.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

interface Declaration {
  readonly name: string;
  readonly kind: 'function' | 'class' | 'const' | 'interface' | 'type';
  /** Without the comment's frame. */
  readonly doc: string;
  /** As declared, without `export declare`. */
  readonly signature: string;
}

const START = /^export (?:declare )?(function|class|const|interface|type) (\w+)/;
const LIST = /^export (?:type )?\{([^}]*)\} from '([^']+)';/gm;

/** @param file a .d.ts that the compiler wrote: a declaration ends at the first line that closes it in column 0 */
function readDeclarations(file: string): Declaration[] {
  const lines = readFileSync(file, 'utf8').split('\n');
  const found: Declaration[] = [];
  let comment: string[] = [];
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] as string;
    if (line.startsWith('/**')) {
      const from = at;
      while (!(lines[at] as string).trimEnd().endsWith('*/')) at++;
      comment = lines.slice(from, at + 1);
      continue;
    }
    const [, kind, name] = START.exec(line) ?? [];
    if (kind !== undefined && name !== undefined) {
      const from = at;
      while (!isEnd(lines[at] as string, at === from)) at++;
      const signature = lines
        .slice(from, at + 1)
        .join('\n')
        .replace(/^export (?:declare )?/, '');
      found.push({ name, kind: kind as Declaration['kind'], doc: unframe(comment), signature });
    }
    comment = [];
  }
  return found;
}

function isEnd(line: string, isFirst: boolean): boolean {
  return isFirst ? /[;}]$/.test(line) : /^[^\s/*].*[;}]$|^[;}]/.test(line);
}

function unframe(comment: readonly string[]): string {
  return comment
    .map((line) =>
      line
        .replace(/^\/\*\* ?/, '')
        .replace(/\s*\*\/$/, '')
        .replace(/^\s*\* ?/, ''),
    )
    .join('\n')
    .trim();
}

/** `@param name text` as list items: Markdown knows no tags. */
function formatDoc(doc: string): string {
  return doc.replaceAll(/^@(\w+)\s+(.*)$/gm, (_, tag: string, text: string) =>
    tag === 'param' || tag === 'typeParam' ? `- \`${text.replace(/^(\w+) /, '$1`: ')}` : `- ${tag}: ${text}`,
  );
}

/** Exports of an entry, by name; re-exports are followed to where they are declared. */
function listExports(file: string): Declaration[] {
  const text = readFileSync(file, 'utf8');
  const own = readDeclarations(file);
  const listed = [...text.matchAll(LIST)].flatMap(([, names = '', from = '']) => {
    const target = join(dirname(file), from.replace(/\.js$/, '.d.ts'));
    const there = listExports(target);
    return names
      .split(',')
      .map((name) => name.trim().replace(/^type /, ''))
      .filter(Boolean)
      .map((name) => {
        const declaration = there.find((one) => one.name === name);
        if (!declaration) throw new Error(`${file} exports ${name}, which ${target} does not declare`);
        return declaration;
      });
  });
  return [...own, ...listed];
}

const isValue = ({ kind }: Declaration): boolean => kind !== 'interface' && kind !== 'type';

/**
 * @param title as imported: `skiff/client`
 * @param file the entry's .d.ts
 */
export function describeEntry(title: string, file: string): string {
  // An overload is part of the function before it.
  const declarations = [...Map.groupBy(listExports(file), ({ name }) => name).values()];
  const ordered = declarations.toSorted(([a], [b]) => {
    const [first, second] = [a as Declaration, b as Declaration];
    return Number(isValue(second)) - Number(isValue(first)) || (first.name < second.name ? -1 : 1);
  });
  const sections = ordered.map((group) => {
    const [{ name, doc } = { name: '', doc: '' }] = group;
    const signatures = group.map(({ signature }) => signature).join('\n');
    return `## ${name}\n\n${doc === '' ? '' : `${formatDoc(doc)}\n\n`}\`\`\`ts-signature\n${signatures}\n\`\`\`\n`;
  });
  const [head = ''] = /^\/\*\*[^]*?\*\//.exec(readFileSync(file, 'utf8')) ?? [];
  return `# \`${title}\`\n\n<!-- Written from the docstrings by the tests; see sdk/README.md. -->\n\n${unframe(head.split('\n'))}\n\n${sections.join('\n')}`;
}
