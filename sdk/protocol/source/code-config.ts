/**
 * Configuration in code: what `export const config = {…}` or `defineFunction({ config: {…} })` of an entry module
 * says, read from its syntax tree (ESTree, of JavaScript) without running it: a build must know the memory and the
 * runtime of a function before there is anything to run it in.
 *
 * Invariant: what would have to be computed is refused with its text and its place in the configuration, never
 * guessed and never left out. Deliberately absent: the parser (its caller's) and what values are allowed (manifest.ts).
 */
import { SkiffError } from '../errors.ts';

export interface SyntaxNode {
  readonly type: string;
  readonly start: number;
  readonly end: number;
}

/** A node whose fields are looked at by name: the tree is data of a parser that this layer does not know. */
type AnyNode = SyntaxNode & { readonly [field: string]: unknown };

export type CodeConfig = Readonly<Record<string, unknown>>;

const DEPTH_MAX = 8;
const SHOWN_CHARS_MAX = 60;

/** True when the text may have a configuration; a parser need not be troubled otherwise. */
export function mayHaveCodeConfig(text: string): boolean {
  return /\bconfig\b/.test(text);
}

/**
 * @param text what the tree was made of
 * @param file for messages
 * @throws SkiffError INVALID_CONFIG when there is a configuration that is not a literal, or more than one
 */
export function readCodeConfig(program: SyntaxNode, text: string, file: string): CodeConfig | undefined {
  const scope: Scope = { text, file, constants: new Map() };
  const body = (program as AnyNode)['body'] as AnyNode[];
  for (const statement of body) collectConstants(statement, scope);
  // By identity: `export const config` may be handed to defineFunction as well.
  const found = new Set(
    body.flatMap((statement) => findConfigs(statement, scope)).map((node) => resolve(node, scope)),
  );
  const [node, second] = found;
  if (node === undefined) return undefined;
  if (second !== undefined) throw refuse(scope, 'config is given twice; keep one of them');
  const value = evaluate(node, ['config'], 0, scope);
  if (isRecord(value)) return value;
  throw refuse(scope, `config is ${show(node, scope)}; it must be an object such as { memory: '512MB' }`);
}

/**
 * What a request says wins over what the code says; variables and labels win one by one. Values are not checked here.
 */
export function mergeConfig(code: CodeConfig, request: CodeConfig): CodeConfig {
  const merged: Record<string, unknown> = { ...code };
  for (const [name, value] of Object.entries(request)) {
    const inCode = code[name];
    if (value === undefined) continue;
    merged[name] = MAPS.has(name) && isRecord(inCode) && isRecord(value) ? { ...inCode, ...value } : value;
  }
  return merged;
}

const MAPS: ReadonlySet<string> = new Set(['env', 'labels']);

function isRecord(value: unknown): value is CodeConfig {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

interface Scope {
  readonly text: string;
  readonly file: string;
  /** Top-level `const name = …`. */
  readonly constants: Map<string, AnyNode>;
}

function collectConstants(statement: AnyNode, scope: Scope): void {
  const declaration =
    statement.type === 'ExportNamedDeclaration' ? (statement['declaration'] as AnyNode | null) : statement;
  if (declaration?.type !== 'VariableDeclaration' || declaration['kind'] !== 'const') return;
  for (const declarator of declaration['declarations'] as AnyNode[]) {
    const id = declarator['id'] as AnyNode;
    const init = declarator['init'] as AnyNode | null;
    if (id.type === 'Identifier' && init) scope.constants.set(id['name'] as string, init);
  }
}

function findConfigs(statement: AnyNode, scope: Scope): AnyNode[] {
  switch (statement.type) {
    case 'ExportNamedDeclaration':
      return findNamedExport(statement, scope);
    case 'ExportDefaultDeclaration':
      return findInDefinition(statement['declaration'] as AnyNode, scope);
    case 'ExpressionStatement':
      return findInAssignment(statement['expression'] as AnyNode, scope);
    default:
      return [];
  }
}

function findNamedExport(statement: AnyNode, scope: Scope): AnyNode[] {
  const declaration = statement['declaration'] as AnyNode | null;
  if (declaration?.type === 'FunctionDeclaration' || declaration?.type === 'ClassDeclaration') {
    if (nameOf(declaration['id']) === 'config')
      throw refuse(scope, 'config is not an object; it must be written as export const config = { … }');
    return [];
  }
  if (declaration?.type === 'VariableDeclaration') {
    const declarators = declaration['declarations'] as AnyNode[];
    return declarators.flatMap((declarator) => {
      if (nameOf(declarator['id']) !== 'config') return [];
      if (declaration['kind'] !== 'const') throw refuse(scope, 'config can be changed; export it as a const');
      return [declarator['init'] as AnyNode];
    });
  }
  return (statement['specifiers'] as AnyNode[]).flatMap((specifier) => {
    if (nameOf(specifier['exported']) !== 'config') return [];
    if (statement['source'] !== null)
      throw refuse(scope, 'config is taken from another module; write it into this one');
    return [specifier['local'] as AnyNode];
  });
}

/** What a name stands for, where that is a constant of the module. */
function resolve(node: AnyNode, scope: Scope): AnyNode {
  let current = node;
  for (let depth = 0; depth < DEPTH_MAX && current.type === 'Identifier'; depth++) {
    current = scope.constants.get(current['name'] as string) ?? current;
  }
  return current;
}

/** The default export: `defineFunction({ … })`, an object with `fetch`, or a name for one of them. */
function findInDefinition(node: AnyNode, scope: Scope): AnyNode[] {
  let definition = resolve(node, scope);
  if (definition.type === 'CallExpression') {
    const [first] = definition['arguments'] as AnyNode[];
    if (!first || !isDefineFunction(definition['callee'] as AnyNode)) return [];
    definition = resolve(first, scope);
  }
  if (definition.type !== 'ObjectExpression') return [];
  return (definition['properties'] as AnyNode[]).flatMap((property) =>
    property.type === 'Property' && !property['computed'] && keyOf(property['key']) === 'config'
      ? [property['value'] as AnyNode]
      : [],
  );
}

/** Bundlers and compilers write `skiff.defineFunction(…)` and `(0, skiff.defineFunction)(…)`. */
function isDefineFunction(callee: AnyNode): boolean {
  if (callee.type === 'SequenceExpression')
    return isDefineFunction((callee['expressions'] as AnyNode[]).at(-1) as AnyNode);
  return nameOf(callee.type === 'MemberExpression' ? callee['property'] : callee) === 'defineFunction';
}

/** CommonJS: `exports.config = {…}`, `module.exports.config = {…}` and `module.exports = {…}`. */
function findInAssignment(node: AnyNode, scope: Scope): AnyNode[] {
  if (node.type !== 'AssignmentExpression' || node['operator'] !== '=') return [];
  const target = scope.text.slice((node['left'] as AnyNode).start, (node['left'] as AnyNode).end);
  const value = node['right'] as AnyNode;
  if (/^(?:module\.)?exports\.config$/.test(target)) return [value];
  return /^(?:module\.exports|(?:module\.)?exports\.default)$/.test(target)
    ? findInDefinition(value, scope)
    : [];
}

function evaluate(node: AnyNode, path: readonly string[], depth: number, scope: Scope): unknown {
  if (depth > DEPTH_MAX) throw refuse(scope, `${path.join('.')} is nested too deeply`);
  const inner = (part: AnyNode, name: string): unknown => evaluate(part, [...path, name], depth + 1, scope);
  switch (node.type) {
    case 'Literal':
      if (node['regex'] === undefined && node['bigint'] === undefined) return node['value'];
      break;
    case 'TemplateLiteral': {
      const [only, more] = node['quasis'] as { value: { cooked: string } }[];
      if (only && !more) return only.value.cooked;
      break;
    }
    case 'UnaryExpression': {
      const value = (node['argument'] as AnyNode)['value'];
      if (typeof value !== 'number') break;
      if (node['operator'] === '-') return -value;
      // `void 0` and `!0`: how compilers write undefined and true.
      if (node['operator'] === 'void') return undefined;
      if (node['operator'] === '!') return !value;
      break;
    }
    case 'Identifier': {
      if (node['name'] === 'undefined') return undefined;
      const constant = scope.constants.get(node['name'] as string);
      if (constant) return evaluate(constant, path, depth + 1, scope);
      break;
    }
    case 'ArrayExpression':
      return (node['elements'] as (AnyNode | null)[]).map((element, i) => {
        if (element) return inner(element, String(i));
        throw refuse(scope, `${path.join('.')} has an empty place`);
      });
    case 'ObjectExpression':
      return Object.fromEntries(
        (node['properties'] as AnyNode[]).map((property) => {
          const key =
            property.type === 'Property' && !property['computed'] ? keyOf(property['key']) : undefined;
          if (key !== undefined && property['kind'] === 'init' && property['method'] !== true)
            return [key, inner(property['value'] as AnyNode, key)];
          throw refuse(scope, `${path.join('.')} has ${show(property, scope)}; write names and values only`);
        }),
      );
  }
  throw refuse(
    scope,
    `${path.join('.')} is computed: ${show(node, scope)}; write the value itself, as it is read without running the code`,
  );
}

function nameOf(node: unknown): string | undefined {
  const { type, name, value } = (node ?? {}) as Partial<AnyNode>;
  if (type === 'Identifier') return name as string;
  return type === 'Literal' ? String(value) : undefined;
}

const keyOf = nameOf;

function show(node: AnyNode, { text }: Scope): string {
  const code = text.slice(node.start, node.end).replaceAll(/\s+/g, ' ');
  return code.length > SHOWN_CHARS_MAX ? `${code.slice(0, SHOWN_CHARS_MAX)}…` : code;
}

function refuse({ file }: Scope, reason: string): SkiffError {
  return new SkiffError('INVALID_CONFIG', `${file}: ${reason}`);
}
