import { describe, expect, test } from 'vitest';
import { interpolateText, interpolateValue } from '../../../sdk/compose/document/interpolate.ts';
import { splitWords } from '../../../sdk/compose/document/words.ts';
import { parseYaml } from '../../../sdk/compose/document/yaml-file.ts';

const variables = { SET: 'value', EMPTY: '', OTHER: 'other' };
function interpolate(text: string): { result: string; unset: string[] } {
  const unset: string[] = [];
  const result = interpolateText(text, 'services.api.image', {
    variables,
    onUnset: (name) => unset.push(name),
  });
  return { result, unset };
}

describe('variables', () => {
  test.each([
    ['plain', 'plain'],
    ['$SET/$SET', 'value/value'],
    ['${SET}x', 'valuex'],
    ['$$SET and $${SET}', '$SET and ${SET}'],
    ['${EMPTY:-default}', 'default'],
    ['${EMPTY-default}', ''],
    ['${UNSET-default}', 'default'],
    ['${UNSET:-}', ''],
    ['${SET:-default}', 'value'],
    ['${SET:+there}', 'there'],
    ['${EMPTY:+there}', ''],
    ['${EMPTY+there}', 'there'],
    ['${UNSET+there}', ''],
    ['${UNSET:-${OTHER}-${UNSET:-deep}}', 'other-deep'],
    ['${UNSET:-a:b/c?d}', 'a:b/c?d'],
    ['${SET:?needed}', 'value'],
  ])('%s is %s', (text, result) => {
    expect(interpolate(text)).toEqual({ result, unset: [] });
  });

  test('one that is not set counts as empty and is told', () => {
    expect(interpolate('a${UNSET}b$MISSING')).toEqual({ result: 'ab', unset: ['UNSET', 'MISSING'] });
  });

  test.each([
    ['${UNSET:?say which}', 'services.api.image: the variable UNSET must be set: say which'],
    ['${EMPTY:?}', 'the variable EMPTY must be set'],
    ['${UNSET?}', 'the variable UNSET must be set'],
    ['${SET', 'has ${ without }'],
    ['a $ b', 'write $$ for the sign itself'],
    ['${1}', '${1} is not a variable'],
    ['${SET!x}', '${SET!x} is not a variable'],
  ])('%s is an error', (text, message) => {
    expect(() => interpolate(text)).toThrow(message);
  });

  test('are put into values of any depth and never into keys', () => {
    const value = interpolateValue({ $SET: ['$SET', { a: '$SET', n: 3, z: null }] }, '', {
      variables,
      onUnset: () => {},
    });
    expect(value).toEqual({ $SET: ['value', { a: 'value', n: 3, z: null }] });
  });
});

test.each([
  ['node app.js', ['node', 'app.js']],
  [`sh -c "echo 'a b' $HOME"`, ['sh', '-c', "echo 'a b' $HOME"]],
  [`a 'b  c' d\\ e "" f"g"h`, ['a', 'b  c', 'd e', '', 'fgh']],
  [`"a \\"b\\" \\n"`, ['a "b" \\n']],
  ['', []],
])('splits the command %s into words', (text, words) => {
  expect(splitWords(text, 'command')).toEqual(words);
});

describe('YAML', () => {
  test('resolves aliases and merge keys; own keys win, then the first base', () => {
    const text = `
x-base: &base { image: a, labels: { k: base } }
x-more: &more { image: b, init: true }
services:
  api: { <<: [*base, *more], image: c }
  web: { <<: [*base, *more] }
  lab: { labels: *l }
x-l: &l { z: 1 }`;
    expect(() => parseYaml(text, 'compose.yaml')).toThrow(/compose\.yaml/);
    expect(parseYaml(text.replace('*l }', '{} }'), 'compose.yaml')['services']).toEqual({
      api: { image: 'c', labels: { k: 'base' }, init: true },
      web: { image: 'a', labels: { k: 'base' }, init: true },
      lab: { labels: {} },
    });
  });

  test('says where a mistake is', () => {
    expect(() => parseYaml('services:\n  api: {\n    image: x\n', 'compose.yaml')).toThrow(
      /^compose\.yaml:\d+:\d+: /,
    );
    expect(() => parseYaml('a: 1\na: 2', 'c.yaml')).toThrow('c.yaml:2:1: Map keys must be unique');
    expect(() => parseYaml('- a', 'c.yaml')).toThrow('a compose file is a mapping');
  });

  test('does not multiply without end', () => {
    const bomb = ['a0: &a0 [x,x,x,x,x,x,x,x,x,x]'];
    for (let i = 1; i < 9; i++)
      bomb.push(
        `a${i}: &a${i} [${Array(10)
          .fill(`*a${i - 1}`)
          .join(',')}]`,
      );
    expect(() => parseYaml(bomb.join('\n'), 'bomb.yaml')).toThrow('its aliases multiply');
    expect(() => parseYaml('a: &a\n  b: *a', 'loop.yaml')).toThrow(/loop\.yaml|multiply/);
    expect(() => parseYaml('"__proto__": { polluted: 1 }', 'p.yaml')).toThrow('cannot be a key');
  });
});
