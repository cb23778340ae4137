/** The reference of the HTTP API in Markdown, from the OpenAPI document that a server gives of itself. */

interface Schema {
  readonly $ref?: string;
}
interface Media {
  readonly schema?: Schema;
}
interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly security: readonly { readonly bearer: readonly string[] }[];
  readonly parameters: readonly {
    readonly name: string;
    readonly in: string;
    readonly description?: string;
  }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, Media>> };
  readonly responses: Readonly<
    Record<string, { readonly description: string; readonly content?: Readonly<Record<string, Media>> }>
  >;
}
export interface OpenApiDocument {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, unknown>> };
}

export function describeApi(document: OpenApiDocument): string {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const used = new Set<string>();
  const sections = operations.map((one) => describeOperation(one, used));
  const schemas = collectSchemas(document.components.schemas, used).map(
    ([name, schema]) => `### ${name}\n\n\`\`\`json\n${JSON.stringify(schema, null, 2)}\n\`\`\`\n`,
  );
  return [
    '# HTTP API',
    '',
    '<!-- Written from the OpenAPI document by the tests; see sdk/README.md. -->',
    '',
    'A server describes itself at `/openapi.json` (OpenAPI 3.1). Requests carry `Authorization: Bearer <token>`; failures are',
    'problem documents (RFC 9457) with a stable `code`.',
    '',
    '## Operations',
    '',
    sections.join('\n'),
    '## Schemas',
    '',
    schemas.join('\n'),
  ].join('\n');
}

interface Place {
  readonly path: string;
  readonly method: string;
  readonly operation: Operation;
}

function describeOperation({ path, method, operation }: Place, used: Set<string>): string {
  const scope = operation.security[0]?.bearer[0];
  const parameters = operation.parameters.map(
    ({ name, in: place, description }) => `\`${name}\` (${place}${description ? `: ${description}` : ''})`,
  );
  const answers = Object.entries(operation.responses).map(
    ([status, { description, content }]) =>
      `\`${status}\` ${description}${content ? ` ${describeMedia(content, used)}` : ''}`,
  );
  const facts = [
    scope === undefined ? 'Needs no token' : `Needs a token with the scope \`${scope}\``,
    ...(parameters.length > 0 ? [`Parameters: ${parameters.join(', ')}`] : []),
    ...(operation.requestBody ? [`Body: ${describeMedia(operation.requestBody.content, used)}`] : []),
    `Answers: ${answers.join('; ')}`,
  ];
  return `### ${operation.operationId}\n\n\`${method} ${path}\`: ${operation.summary}\n\n${facts.map((fact) => `- ${fact}`).join('\n')}\n`;
}

function describeMedia(content: Readonly<Record<string, Media>>, used: Set<string>): string {
  return Object.entries(content)
    .map(([type, { schema }]) => {
      const name = schema?.$ref?.split('/').at(-1);
      if (name === undefined) return `\`${type}\``;
      used.add(name);
      return type === 'application/json'
        ? `[${name}](#${name.toLowerCase()})`
        : `\`${type}\` of [${name}](#${name.toLowerCase()})`;
    })
    .join(', ');
}

/** Those that operations use, and those that these use. */
function collectSchemas(all: Readonly<Record<string, unknown>>, used: Set<string>): [string, unknown][] {
  for (const name of used) {
    for (const [, inner] of JSON.stringify(all[name]).matchAll(/"#\/components\/schemas\/(\w+)"/g))
      used.add(inner as string);
  }
  return Object.entries(all)
    .filter(([name]) => used.has(name))
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
}
