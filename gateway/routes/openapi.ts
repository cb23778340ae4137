/**
 * /openapi.json: OpenAPI 3.1 made from the route table and its zod schemas, so that it cannot lag behind.
 * OpenAPI 3.1 uses JSON Schema 2020-12, which is what zod writes.
 */
import { z } from 'zod';
import * as resources from '../../sdk/protocol/api.ts';
import { ERRORS, type ErrorCode } from '../../sdk/protocol/errors.ts';
import { ROUTES, type RouteSpec } from './table.ts';

type Json = Record<string, unknown>;

const REF = '#/components/schemas/';
const MEDIA = {
  json: 'application/json',
  ndjson: 'application/x-ndjson',
  sse: 'text/event-stream',
  text: 'text/plain',
} as const;

export function createOpenApi(serverUrl: string, version: string): Json & { openapi: string } {
  const schemas = createSchemas();
  const paths: Record<string, Json> = {};
  for (const [id, spec] of Object.entries(ROUTES)) {
    const path = spec.path.replaceAll(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [spec.method.toLowerCase()]: describeRoute(id, spec, schemas) };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Skiff', version, description: 'Control API of a Skiff server.' },
    servers: [{ url: serverUrl }],
    paths,
    components: {
      schemas: schemas.components,
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } },
    },
  };
}

interface Schemas {
  readonly components: Json;
  readonly refTo: (schema: z.ZodType) => Json;
}

/** Every exported resource by its own name; bodies and answers of routes by the route's. */
function createSchemas(): Schemas {
  const registry = z.registry<{ id?: string }>();
  const names = new Map<z.ZodType, string>();
  const inputs = new Set<z.ZodType>();
  const name = (schema: z.ZodType, id: string) => {
    if (names.has(schema)) return;
    names.set(schema, id);
    registry.add(schema, { id });
  };
  for (const [id, value] of Object.entries(resources)) if (value instanceof z.ZodType) name(value, id);
  for (const [id, spec] of Object.entries(ROUTES) as [string, RouteSpec][]) {
    const title = id.charAt(0).toUpperCase() + id.slice(1);
    if (spec.body instanceof z.ZodType) name(spec.body, `${title}Request`);
    if (spec.body instanceof z.ZodType) inputs.add(spec.body);
    if (spec.response) name(spec.response, `${title}Response`);
  }
  const uri = (id: string) => `${REF}${id}`;
  const options = { uri, unrepresentable: 'any', override: describeTransform } as const;
  const read = z.toJSONSchema(registry, { ...options, io: 'output' }).schemas;
  const written = z.toJSONSchema(registry, { ...options, io: 'input' }).schemas;
  const components: Json = { Problem: PROBLEM };
  for (const [schema, id] of names) {
    const { $id: _id, $schema: _dialect, ...rest } = (inputs.has(schema) ? written : read)[id] as Json;
    components[id] = rest;
  }
  return { components, refTo: (schema) => ({ $ref: uri(names.get(schema) as string) }) };
}

/** What a transform makes cannot be read off it. In resources there are two, sizes and durations: both give numbers. */
function describeTransform({
  zodSchema,
  jsonSchema,
}: {
  zodSchema: z.core.$ZodType;
  jsonSchema: Json;
}): void {
  if (zodSchema._zod.def.type === 'transform') jsonSchema['type'] = 'number';
}

function describeRoute(id: string, spec: RouteSpec, schemas: Schemas): Json {
  const { body, response, media = 'json' } = spec;
  const content =
    body === 'bytes'
      ? { 'application/x-tar': { schema: {} } }
      : body && { 'application/json': { schema: schemas.refTo(body) } };
  const success = {
    description: response ? 'Success.' : 'Done.',
    ...(response && { content: { [MEDIA[media]]: { schema: schemas.refTo(response) } } }),
  };
  return {
    operationId: id,
    summary: spec.summary,
    ...(spec.scope === 'public' ? { security: [] } : { security: [{ bearer: [spec.scope] }] }),
    parameters: describeParameters(spec),
    ...(content && { requestBody: { required: true, content } }),
    responses: { [spec.status]: success, ...describeErrors(spec) },
  };
}

function describeParameters(spec: RouteSpec): Json[] {
  const inPath = [...spec.path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
  if (!spec.query) return inPath;
  const { properties = {}, required = [] } = z.toJSONSchema(spec.query, {
    io: 'input',
    unrepresentable: 'any',
  });
  const inQuery = Object.entries(properties).map(([name, schema]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    schema,
  }));
  return [...inPath, ...inQuery];
}

/** What the route can answer besides success, by status, with the codes in the text. */
function describeErrors(spec: RouteSpec): Json {
  const codes: ErrorCode[] = [...spec.errors, 'UNAVAILABLE', 'INTERNAL'];
  if (spec.scope !== 'public') codes.push('UNAUTHENTICATED', 'FORBIDDEN');
  if (spec.query || spec.body) codes.push('BAD_REQUEST');
  if (spec.body) codes.push('BODY_TOO_LARGE');
  const byStatus: Record<number, Set<ErrorCode>> = {};
  for (const code of codes) (byStatus[ERRORS[code].status] ??= new Set()).add(code);
  const content = { 'application/problem+json': { schema: { $ref: `${REF}Problem` } } };
  return Object.fromEntries(
    Object.entries(byStatus).map(([status, set]) => [
      status,
      { description: [...set].sort().join(', '), content },
    ]),
  );
}

/** RFC 9457, as `createProblem` writes it. */
const PROBLEM: Json = {
  type: 'object',
  required: ['type', 'title', 'status', 'detail', 'code', 'fault'],
  properties: {
    type: { type: 'string' },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string' },
    code: { type: 'string', enum: Object.keys(ERRORS) },
    fault: { type: 'string', enum: ['caller', 'function', 'platform'] },
    cause: { type: 'string' },
    requestId: { type: 'string' },
    invocationId: { type: 'string' },
    details: { type: 'object' },
  },
};
