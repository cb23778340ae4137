import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { YamlMap } from '../../../sdk/compose/document/yaml-file.ts';
import { SERVICE_KEYS } from '../../../sdk/compose/schema/service.ts';
import { checkSpecification } from '../../../sdk/compose/schema/specification.ts';
import { ROOT } from '../../helpers/source-tree.ts';

interface Definition {
  readonly properties?: object;
  readonly allOf?: readonly { readonly $ref?: string }[];
}

test('the keys of a service are those of the specification', () => {
  const file = join(ROOT, 'sdk/compose/schema/compose-spec.json');
  const { $defs } = JSON.parse(readFileSync(file, 'utf8')) as { $defs: Record<string, Definition> };
  const keysOf = ({ properties = {}, allOf = [] }: Definition): string[] => [
    ...Object.keys(properties),
    ...allOf.flatMap(({ $ref = '' }) => keysOf($defs[$ref.replace('#/$defs/', '')] ?? {})),
  ];
  const keys = new Set(keysOf($defs['service'] as Definition));
  expect(keys.size).toBeGreaterThan(85);
  expect([...keys].toSorted()).toEqual([...SERVICE_KEYS].toSorted());
});

test.each<[YamlMap, string]>([
  [{ services: { a: { imge: 'x' } } }, 'services.a has "imge", which the specification does not know'],
  [{ services: { a: { ports: [{ target: 1, x: 2 }] } } }, 'services.a.ports.0 has "x", which'],
  [{ services: { a: { deploy: { mode: 3 } } } }, 'services.a.deploy.mode must be a text'],
  [
    { services: { a: { depends_on: { b: { condition: 'up' } } } } },
    'condition is "up"; it may be service_started, service_healthy, service_completed_successfully',
  ],
  [{ volumes: { data: [] } }, 'volumes.data must be a mapping or empty'],
  [
    { services: { a: { imge: 'x', deploy: { mode: 3 } } } },
    'services.a.deploy.mode must be a text\nc.yaml: services.a has "imge", which the specification does not know',
  ],
])('says where %j is not of the specification', (value, message) => {
  expect(() => checkSpecification(value, 'c.yaml')).toThrow(message);
});
