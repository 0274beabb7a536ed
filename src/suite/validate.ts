/**
 * Data against a schema, with every mistake reported at once: the place, what is wrong, and for an unknown key the nearest
 * known one.
 */
import type { z } from 'zod';
import { nearest } from '../nearest.ts';

export type Validated<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly mistakes: readonly string[] };

/** Parses `data`; mistakes are sentences such as `measure.round: unknown key; did you mean 'rounds'?`. */
export function validate<T>(schema: z.ZodType<T>, data: unknown): Validated<T> {
  const parsed = schema.safeParse(data);
  if (parsed.success) return { ok: true, value: parsed.data };
  return { ok: false, mistakes: parsed.error.issues.flatMap((issue) => describe(schema, data, issue)) };
}

function describe(schema: z.ZodType, data: unknown, issue: z.core.$ZodIssue): string[] {
  const place = formatPath(writtenPath(data, issue.path));
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = knownKeys(schema, issue.path, data);
      return issue.keys.map((key) => {
        const guess = nearest(key, known);
        const hint = guess === undefined ? `; known: ${known.join(', ')}` : `; did you mean '${guess}'?`;
        return `${formatPath([...issue.path, key])}: unknown key${hint}`;
      });
    }
    case 'invalid_value': {
      const values = issue.values.map(String);
      const found = valueAt(data, issue.path);
      const guess = typeof found === 'string' ? nearest(found, values) : undefined;
      return [`${place}: ${show(found)} is not one of ${values.join(', ')}${guess === undefined ? '' : `; did you mean '${guess}'?`}`];
    }
    case 'invalid_union':
      return issue.discriminator === undefined
        ? [`${place}: ${lowerFirst(issue.message)}`]
        : [`${place}: ${show(valueAt(data, issue.path))} is not one of ${optionNames(schema, issue.path, data, issue.discriminator).join(', ')}`];
    case 'invalid_type':
      return [valueAt(data, issue.path) === undefined ? `${place}: missing, expected ${issue.expected}` : `${place}: ${lowerFirst(issue.message)}`];
    default:
      return [`${place}: ${lowerFirst(issue.message)}`];
  }
}

/** `inputs[0].preprocess.mean`; the whole document has no path. */
export function formatPath(path: readonly PropertyKey[]): string {
  const text = path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
  return text.replace(/^\./, '') || 'the file';
}

function lowerFirst(text: string): string {
  return text.replace(/^(Invalid input|Too|Unrecognized|Invalid)/, (word) => word.toLowerCase());
}

function show(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}

function valueAt(data: unknown, path: readonly PropertyKey[]): unknown {
  return writtenPath(data, path).reduce<unknown>((value, key) => (value === null || typeof value !== 'object' ? undefined : Reflect.get(value, key)), data);
}

/** The path in the document as it was written: a single value may stand for a list of one. */
function writtenPath(data: unknown, path: readonly PropertyKey[]): readonly PropertyKey[] {
  const [head, ...rest] = path;
  if (head === undefined) return [];
  if (typeof head === 'number' && data !== undefined && !Array.isArray(data)) return writtenPath(data, rest);
  const inner = data === null || typeof data !== 'object' ? undefined : Reflect.get(data, head);
  return [head, ...writtenPath(inner, rest)];
}

/** Keys that the schema knows at a place of the document. */
function knownKeys(schema: z.ZodType, path: readonly PropertyKey[], data: unknown): string[] {
  const records = schemasAt(schema, path, data).filter((option): option is z.ZodRecord<z.ZodEnum> => option.def.type === 'record');
  const listed = records.flatMap(({ keyType }) => (keyType.def.type === 'enum' ? keyType.options.map(String) : []));
  return [...objectsAt(schema, path, data).flatMap((object) => Object.keys(object.shape)), ...listed];
}

/** Names of the options of the discriminated union that holds `path`. */
function optionNames(schema: z.ZodType, path: readonly PropertyKey[], data: unknown, discriminator: string): string[] {
  return objectsAt(schema, path.slice(0, -1), data, false).flatMap((object) => {
    const field = object.shape[discriminator];
    return field?.def.type === 'literal' ? (field as z.ZodLiteral).def.values.map(String) : [];
  });
}

/** The object schemas that the document may have at `path`; unions are narrowed by the literals that the data gives. */
function objectsAt(schema: z.ZodType, path: readonly PropertyKey[], data: unknown, narrow = true): z.ZodObject[] {
  const objects = schemasAt(schema, path, data).filter((option): option is z.ZodObject => option.def.type === 'object');
  return narrow && objects.length > 1 ? objects.filter((object) => literalsAgree(object, valueAt(data, path))) : objects;
}

/** Every schema that the document may have at `path`. */
function schemasAt(schema: z.ZodType, path: readonly PropertyKey[], data: unknown): z.ZodType[] {
  const options = unwrap(schema);
  const [head, ...rest] = path;
  if (head === undefined) return options;
  const value = valueAt(data, [head]);
  return options
    .filter((option) => option.def.type !== 'object' || literalsAgree(option as z.ZodObject, data))
    .flatMap((option) => {
      const child = childSchema(option, head);
      return child === undefined ? [] : schemasAt(child, rest, value);
    });
}

function literalsAgree(object: z.ZodObject, data: unknown): boolean {
  return Object.entries(object.shape).every(
    ([key, field]) => field.def.type !== 'literal' || (field as z.ZodLiteral).def.values.includes(valueAt(data, [key]) as string),
  );
}

function childSchema(schema: z.ZodType, key: PropertyKey): z.ZodType | undefined {
  switch (schema.def.type) {
    case 'object':
      return (schema as z.ZodObject).shape[String(key)] as z.ZodType | undefined;
    case 'array':
      return (schema as z.ZodArray<z.ZodType>).element;
    case 'record':
      return (schema as z.ZodRecord<z.ZodString, z.ZodType>).valueType;
    default:
      return undefined;
  }
}

/** Without defaults, optionality and preprocessing; a union gives its options. */
function unwrap(schema: z.ZodType): z.ZodType[] {
  switch (schema.def.type) {
    case 'optional':
    case 'default':
    case 'prefault':
      return unwrap((schema as z.ZodOptional<z.ZodType>).def.innerType);
    case 'pipe':
      return unwrap((schema as z.ZodPipe<z.ZodType, z.ZodType>).def.out);
    case 'union':
      return (schema as z.ZodUnion<z.ZodType[]>).def.options.flatMap(unwrap);
    default:
      return [schema];
  }
}
