import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createOpenApi } from '../../../gateway/routes/openapi.ts';
import { ROUTES, type RouteSpec } from '../../../gateway/routes/table.ts';
import { Scope } from '../../../sdk/protocol/api.ts';
import { FunctionConfig } from '../../../sdk/protocol/manifest.ts';
import { ERRORS } from '../../../sdk/protocol/errors.ts';

interface Operation {
  operationId: string;
  security: { bearer: string[] }[];
  parameters: { name: string; in: string; required: boolean }[];
  requestBody?: { content: Record<string, unknown> };
  responses: Record<string, { description: string; content?: Record<string, unknown> }>;
}
const document = createOpenApi('http://localhost:8080', '1.2.3') as unknown as {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object> };
};
interface Fields {
  properties: Record<string, object>;
}
const routes = Object.entries(ROUTES) as [string, RouteSpec][];

describe.each(routes)('%s', (id, spec) => {
  const operation = document.paths[spec.path.replaceAll(/:(\w+)/g, '{$1}')]?.[spec.method.toLowerCase()];

  it('is described under its own id', () => expect(operation?.operationId).toBe(id));

  it('states its scope', () => {
    expect(['public', ...Scope.options]).toContain(spec.scope);
    expect(operation?.security).toEqual(spec.scope === 'public' ? [] : [{ bearer: [spec.scope] }]);
  });

  it('names every path and query parameter', () => {
    const named = operation?.parameters.map((parameter) => `${parameter.in} ${parameter.name}`);
    const inPath = [...spec.path.matchAll(/:(\w+)/g)].map(([, name]) => `path ${name}`);
    const inQuery = Object.keys(spec.query?.shape ?? {}).map((name) => `query ${name}`);
    expect(named).toEqual([...inPath, ...inQuery]);
  });

  it('describes success and every error code it can answer', () => {
    expect(Object.keys(operation?.responses ?? {})).toContain(String(spec.status));
    expect(spec.status === 204).toBe(spec.response === undefined);
    for (const code of spec.errors) {
      expect(operation?.responses[ERRORS[code].status]?.description.split(', ')).toContain(code);
    }
    expect(operation?.requestBody === undefined).toBe(spec.body === undefined);
  });
});

describe('the document', () => {
  it('has no two routes of one method and path', () => {
    const all = routes.map(([, { method, path }]) => `${method} ${path.replaceAll(/:\w+/g, ':')}`);
    expect(new Set(all).size).toBe(all.length);
  });

  it('refers only to schemas that it has', () => {
    const text = JSON.stringify(document);
    const refs = [...text.matchAll(/"\$ref":"([^"]+)"/g)].map(([, ref]) => ref as string);
    expect(refs.length).toBeGreaterThan(routes.length);
    for (const ref of refs) {
      expect(ref).toMatch(/^#\/components\/schemas\//);
      expect(document.components.schemas).toHaveProperty([ref.split('/')[3] as string]);
    }
  });

  it('says of every field of a stored configuration what it is', () => {
    const { config } = (document.components.schemas['Deployment'] as { properties: { config: Fields } })
      .properties;
    const stored = FunctionConfig.parse({
      firstByteTimeout: '1s',
      idleTimeout: '1s',
      readyPath: '/',
      entrypoint: ['a'],
      command: ['a'],
      port: 3000,
      files: { '/a': 'a' },
      volumes: [{ name: 'data', target: '/data' }],
    });
    expect(Object.keys(config.properties).toSorted()).toEqual(Object.keys(stored).toSorted());
    for (const [name, value] of Object.entries(stored)) {
      const { type, anyOf } = config.properties[name] as { type?: string; anyOf?: unknown };
      const plain = Array.isArray(value) ? 'array' : typeof value;
      const actual = Number.isInteger(value) && type === 'integer' ? 'integer' : plain;
      expect([name, type ?? (anyOf && actual)]).toEqual([name, actual]);
    }
  });

  it('has schemas that zod itself can read back, and that say what the resource is', () => {
    const { FunctionRecord, DeployRequest, Deployment, Usage } = document.components.schemas;
    expect(FunctionRecord).toMatchObject({
      type: 'object',
      required: expect.arrayContaining(['name', 'url']),
    });
    expect(DeployRequest).toMatchObject({ type: 'object', additionalProperties: false });
    expect(Deployment).toMatchObject({
      properties: { config: { type: 'object' }, entry: { type: 'string' } },
    });
    const usage = z.fromJSONSchema(Usage as never);
    expect(usage.safeParse({ store: 'redis', bytes: 1 }).success).toBe(true);
    expect(usage.safeParse({ bytes: 1 }).success).toBe(false);
  });
});
