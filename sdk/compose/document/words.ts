/** Splits a command as a shell would into words, without running or expanding anything. */
import { invalid } from './yaml-file.ts';

export function splitWords(text: string, path: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote: string | undefined;
  for (let i = 0; i < text.length; i++) {
    const character = text[i] as string;
    if (quote !== undefined) {
      if (character === quote) quote = undefined;
      else if (character === '\\' && quote === '"' && /["\\$`]/.test(text[i + 1] ?? ''))
        word += text[++i] as string;
      else word += character;
    } else if (character === '"' || character === "'") {
      quote = character;
      word ??= '';
    } else if (character === '\\' && i + 1 < text.length) {
      word = (word ?? '') + (text[++i] as string);
    } else if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      word = (word ?? '') + character;
    }
  }
  if (quote !== undefined) throw invalid(`${path}: "${text}" has a ${quote} that is not closed`);
  if (word !== undefined) words.push(word);
  return words;
}
