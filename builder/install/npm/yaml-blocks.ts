/** Top-level entries of a YAML file by name, kept as they are written: what is inside of them is their reader's. */

/** Entries of other names go, and so does what stands above the first one. */
export function keepBlocks(text: string, names: readonly string[]): string {
  let isKept = false;
  const kept: string[] = [];
  for (const line of text.replace(/^\uFEFF/, '').split(/\r?\n/)) {
    const name = /^(["']?)([\w-]+)\1\s*:/.exec(line)?.[2];
    // A list may stand at the margin below its name; anything else there begins something new.
    if (name !== undefined) isKept = names.includes(name);
    else if (/^[^\s#-]/.test(line)) isKept = false;
    if (isKept && !/^\s*(?:#|$)/.test(line)) kept.push(line);
  }
  return kept.length === 0 ? '' : `${kept.join('\n')}\n`;
}
