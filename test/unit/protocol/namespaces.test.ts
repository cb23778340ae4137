import { describe, expect, it } from 'vitest';
import { FunctionConfig, FunctionName, StoredSecretName } from '../../../sdk/protocol/manifest.ts';
import {
  assertOwnNamespace,
  mayReach,
  namespaceOf,
  resolveName,
} from '../../../sdk/protocol/reach/namespaces.ts';
import { tryParseTarget } from '../../../gateway/invoke/request-head.ts';

describe('names', () => {
  it.each(['resize', 'team.resize', 'a.b', 'team-1.resize-2'])('%s is one', (name) => {
    expect(FunctionName.safeParse(name).success).toBe(true);
    expect(tryParseTarget(`/f/${name}/x`)).toEqual({ name, path: '/x' });
  });

  it.each([
    '.resize',
    'team.',
    'a.b.c',
    'team..x',
    '..',
    '.',
    'team.-x',
    'team-.x',
    'Team.x',
    'team.1',
    `${'a'.repeat(32)}.${'b'.repeat(32)}`,
  ])('%s is none', (name) => {
    expect(FunctionName.safeParse(name).success).toBe(false);
    expect(tryParseTarget(`/f/${name}/x`)).toBeUndefined();
  });

  it('secrets are stored with a namespace or without', () => {
    const isName = (name: string): boolean => StoredSecretName.safeParse(name).success;
    expect(['db', 'DB_1', 'team.db', 'team.DB'].every(isName)).toBe(true);
    expect(['team.', '.db', 'a.b.c', 'Team.db', 'team.path', 'team.LD_PRELOAD'].some(isName)).toBe(false);
  });
});

describe('reach', () => {
  it('a bare name is one of the own namespace', () => {
    expect(resolveName('resize', 'team.shop')).toBe('team.resize');
    expect(resolveName('resize', 'shop')).toBe('resize');
    expect(resolveName('other.resize', 'team.shop')).toBe('other.resize');
    expect(['team.x', 'x'].map(namespaceOf)).toEqual(['team', undefined]);
  });

  it.each([
    ['team.a', 'team.b', true],
    ['team.a', 'other.b', false],
    ['team.a', 'b', false],
    ['team.a', 'teams.b', false],
    ['a', 'team.b', true],
    ['a', 'b', true],
  ])('%s may reach %s: %s', (by, target, may) => {
    expect(mayReach(by, target)).toBe(may);
  });

  it('a configuration is judged by all that it names', () => {
    const judge = (config: object): unknown => assertOwnNamespace('team.a', FunctionConfig.parse(config));
    expect(() => judge({ calls: ['b', 'x=team.c'], async: { onSuccess: { function: 'd' } } })).not.toThrow();
    for (const config of [
      { calls: ['b', 'x=other.c'] },
      { async: { onSuccess: { function: 'other.d' } } },
      { async: { onFailure: { function: 'other.d' } } },
    ])
      expect(() => judge(config)).toThrow(/"other\.[cd]"/);
  });
});
