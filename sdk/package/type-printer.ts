/**
 * Writes types as plain declarations. Resources of the API are zod schemas in sdk/protocol and their types are computed
 * from them; a package without dependencies cannot say that, so here the compiler says what they are, with the comments
 * of their fields. A type that has a name is printed by it wherever it occurs.
 */
import type { Checker, Symbol as TypeSymbol, Type } from 'typescript/unstable/sync';

/** Of `SymbolFlags`, `TypeFlags` and `NodeBuilderFlags`, which the compiler's API exports without their types. */
const OPTIONAL = 16_777_216;
const UNDEFINED = 4;
const NO_TRUNCATION = 1;
const SINGLE_QUOTES = 268_435_456;
const BOOLEAN_LITERAL = 8_192;

const DEPTH_MAX = 16;

export interface NamedType {
  readonly name: string;
  /** Absolute path of the module that exports it. */
  readonly module: string;
}

export class TypePrinter {
  readonly #checker: Checker;
  readonly #names: ReadonlyMap<number, NamedType>;
  /** Named types of other modules that were printed. */
  readonly #used = new Map<string, NamedType>();
  #module = '';

  /** @param names by the type's id */
  constructor(checker: Checker, names: ReadonlyMap<number, NamedType>) {
    this.#checker = checker;
    this.#names = names;
  }

  /** Declarations of exported types, and which named types of other modules they use. */
  printModule(
    module: string,
    exported: readonly TypeSymbol[],
  ): { readonly text: string; readonly used: readonly NamedType[] } {
    this.#module = module;
    this.#used.clear();
    const text = exported.map((symbol) => this.#printDeclaration(symbol)).join('\n');
    return { text, used: [...this.#used.values()] };
  }

  #printDeclaration(symbol: TypeSymbol): string {
    const type = this.#checker.getDeclaredTypeOfSymbol(symbol);
    const doc = printDoc(symbol.getDocumentationComment(this.#checker), '');
    const body = this.#print(type, '', 0, true);
    return body.startsWith('{') && type.isObjectType()
      ? `${doc}export interface ${symbol.name} ${body}\n`
      : `${doc}export type ${symbol.name} = ${body};\n`;
  }

  #print(type: Type, indent: string, depth: number, isRoot = false): string {
    const named = isRoot ? undefined : this.#names.get(type.id);
    if (named) {
      if (named.module !== this.#module) this.#used.set(named.name, named);
      return named.name;
    }
    if (depth > DEPTH_MAX)
      throw new Error(
        `a type is deeper than ${DEPTH_MAX} levels: ${this.#toText(type)}; give a part of it a name`,
      );
    if (type.isUnionType()) return this.#printUnion(type.getTypes(), indent, depth);
    if (this.#checker.isArrayType(type)) return this.#printArray(type, indent, depth);
    if (!type.isObjectType() || this.#isCallable(type) || this.#checker.isTupleType(type))
      return this.#toText(type);
    return this.#printObject(type, indent, depth);
  }

  #printUnion(types: readonly Type[], indent: string, depth: number): string {
    const isBoolean = types.filter(({ flags }) => (flags & BOOLEAN_LITERAL) !== 0).length === 2;
    const printed = types
      .filter(({ flags }) => !isBoolean || (flags & BOOLEAN_LITERAL) === 0)
      // The compiler sorts `undefined` first; people write it last.
      .toSorted((a, b) => Number((a.flags & UNDEFINED) !== 0) - Number((b.flags & UNDEFINED) !== 0))
      .map((type) => this.#print(type, indent, depth + 1));
    return [...(isBoolean ? ['boolean'] : []), ...printed].join(' | ');
  }

  #printArray(type: Type, indent: string, depth: number): string {
    const [element] = this.#checker.getTypeArguments(type as never);
    const text = this.#print(element as Type, indent, depth + 1);
    return text.includes(' | ') && !text.startsWith('{') ? `(${text})[]` : `${text}[]`;
  }

  #printObject(type: Type, indent: string, depth: number): string {
    const inner = `${indent}  `;
    const properties = this.#checker
      .getPropertiesOfType(type)
      .map((property) => this.#printProperty(property, inner, depth));
    const indexes = this.#checker
      .getIndexInfosOfType(type)
      .map(
        ({ keyType, valueType }) =>
          `${inner}[key: ${this.#toText(keyType)}]: ${this.#print(valueType, inner, depth + 1)};\n`,
      );
    if (properties.length + indexes.length === 0) return '{}';
    return `{\n${[...properties, ...indexes].join('')}${indent}}`;
  }

  #printProperty(property: TypeSymbol, indent: string, depth: number): string {
    const isOptional = (property.flags & OPTIONAL) !== 0;
    const type = this.#checker.getTypeOfSymbol(property) as Type;
    const name = /^[\w$]+$/.test(property.name) ? property.name : JSON.stringify(property.name);
    const doc = printDoc(property.getDocumentationComment(this.#checker), indent);
    return `${doc}${indent}${name}${isOptional ? '?' : ''}: ${this.#print(type, indent, depth + 1)};\n`;
  }

  #isCallable(type: Type): boolean {
    return this.#checker.getSignaturesOfType(type, 0).length > 0;
  }

  #toText(type: Type): string {
    return this.#checker.typeToString(type, undefined, NO_TRUNCATION | SINGLE_QUOTES);
  }
}

function printDoc(text: string, indent: string): string {
  if (text === '') return '';
  const lines = text.split('\n');
  if (lines.length === 1) return `${indent}/** ${text} */\n`;
  return `${indent}/**\n${lines.map((line) => `${indent} * ${line}`.trimEnd()).join('\n')}\n${indent} */\n`;
}
