/**
 * Variables in values (Compose Specification, "Interpolation"): `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`,
 * `${NAME:?message}`, `${NAME?message}`, `${NAME:+other}`, `${NAME+other}`; defaults may have variables in them; `$$`
 * is a dollar sign. Keys are never interpolated.
 */
import { invalid, isMapValue, Override } from './yaml-file.ts';

export type Variables = Readonly<Record<string, string | undefined>>;

export interface Interpolation {
  readonly variables: Variables;
  /** Told once for each variable that is not set and has no default; it counts as empty. */
  readonly onUnset: (name: string) => void;
}

/** @param path where the value is, for messages */
export function interpolateValue(value: unknown, path: string, use: Interpolation): unknown {
  if (typeof value === 'string') return interpolateText(value, path, use);
  if (Array.isArray(value)) return value.map((item, i) => interpolateValue(item, `${path}[${i}]`, use));
  if (value instanceof Override) return new Override(interpolateValue(value.value, path, use));
  if (!isMapValue(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      interpolateValue(item, path === '' ? key : `${path}.${key}`, use),
    ]),
  );
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]*/;
const DEPTH_MAX = 10;

export function interpolateText(text: string, path: string, use: Interpolation, depth = 0): string {
  if (!text.includes('$')) return text;
  if (depth > DEPTH_MAX) throw invalid(`${path}: variables are nested too deeply`);
  let result = '';
  for (let at = 0; at < text.length;) {
    const dollar = text.indexOf('$', at);
    if (dollar === -1) return result + text.slice(at);
    result += text.slice(at, dollar);
    const rest = text.slice(dollar + 1);
    if (rest.startsWith('$')) {
      result += '$';
      at = dollar + 2;
    } else if (rest.startsWith('{')) {
      const end = findEnd(rest);
      if (end === -1) throw invalid(`${path}: "${text}" has \${ without }`);
      result += substitute(rest.slice(1, end), path, use, depth);
      at = dollar + 1 + end + 1;
    } else {
      const name = NAME.exec(rest)?.[0];
      if (name === undefined)
        throw invalid(`${path}: "${text}" has a $ that begins no variable; write $$ for the sign itself`);
      result += substitute(name, path, use, depth);
      at = dollar + 1 + name.length;
    }
  }
  return result;
}

/** Position of the } that closes the { at 0. */
function findEnd(text: string): number {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '{') depth++;
    if (text[i] === '}' && --depth === 0) return i;
  }
  return -1;
}

function substitute(expression: string, path: string, use: Interpolation, depth: number): string {
  const name = NAME.exec(expression)?.[0];
  const [, colon, operator, operand = ''] =
    /^(:?)([-?+])([^]*)$/.exec(expression.slice(name?.length ?? 0)) ?? [];
  if (name === undefined || (operator === undefined && name.length < expression.length))
    throw invalid(`${path}: \${${expression}} is not a variable`);
  const value = use.variables[name];
  const isThere = value !== undefined && (colon !== ':' || value !== '');
  switch (operator) {
    case '-':
      return isThere ? value : interpolateText(operand, path, use, depth + 1);
    case '+':
      return isThere ? interpolateText(operand, path, use, depth + 1) : '';
    case '?':
      if (isThere) return value;
      throw invalid(
        `${path}: the variable ${name} must be set${operand === '' ? '' : `: ${interpolateText(operand, path, use, depth + 1)}`}`,
      );
    default:
      if (value === undefined) use.onUnset(name);
      return value ?? '';
  }
}
