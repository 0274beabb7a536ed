/** The files of a new plugin: JavaScript with types in comments, so that it runs as it is on every Node and is checked by tsc. */
import type { AttributeSpec } from '../ir/custom.ts';

export const TEMPLATES = ['expression', 'kernel'] as const;
export type Template = (typeof TEMPLATES)[number];

export interface TemplateFacts {
  readonly name: string;
  /** Op: domain and name. */
  readonly domain: string;
  readonly op: string;
  readonly attributes: Readonly<Record<string, AttributeSpec>>;
  /** Names of the inputs. */
  readonly inputs: readonly string[];
  readonly template: Template;
  readonly toolVersion: string;
}

/** Contents by path. */
export function pluginFiles(facts: TemplateFacts): Readonly<Record<string, string>> {
  return {
    'package.json': manifest(facts),
    'tsconfig.json': TSCONFIG,
    'index.js': moduleSource(facts),
    'index.test.js': testSource(facts),
    'README.md': readme(facts),
  };
}

function manifest({ name, toolVersion }: TemplateFacts): string {
  return `${JSON.stringify(
    {
      name,
      version: '0.1.0',
      type: 'module',
      exports: './index.js',
      files: ['index.js'],
      scripts: { test: 'node --test && tsrt-bench plugin test .', typecheck: 'tsc' },
      peerDependencies: { 'tsrt-bench': `^${toolVersion}` },
    },
    undefined,
    2,
  )}\n`;
}

const TSCONFIG = `${JSON.stringify(
  { compilerOptions: { module: 'nodenext', target: 'es2023', lib: ['es2023', 'dom'], strict: true, allowJs: true, checkJs: true, noEmit: true, skipLibCheck: true, types: [] }, include: ['index.js'] },
  undefined,
  2,
)}\n`;

/** What the new op computes until its author says better: the first input times the first number among the attributes. */
function factorOf(attributes: TemplateFacts['attributes']): string | undefined {
  return Object.entries(attributes).find(([, spec]) => spec.type === 'float')?.[0];
}

/** A value as JavaScript that people write. */
function literal(value: unknown): string {
  if (typeof value === 'string') return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'").replaceAll('\n', '\\n')}'`;
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return String(value);
  const entries = Object.entries(value).map(([key, item]) => `${/^[A-Za-z_$][\w$]*$/.test(key) ? key : literal(key)}: ${literal(item)}`);
  return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
}

function access(name: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? `attrs.${name}` : `attrs[${literal(name)}]`;
}

function moduleSource(facts: TemplateFacts): string {
  const { name, domain, op, attributes, inputs, template } = facts;
  const factor = factorOf(attributes);
  const k = factor === undefined ? '1' : access(factor);
  const [x = 'x', ...others] = inputs;
  const imports = template === 'expression' ? 'defineOp, definePlugin, formula' : 'defineOp, definePlugin, elementCount';
  return `import { ${imports} } from 'tsrt-bench';

/** y = ${factor ?? '1'}·${x}${others.length > 0 ? ` + ${others.join(' + ')}` : ''}: put your own formula here, in \`reference\` first. */
const op = defineOp({
  domain: '${domain}',
  name: '${op}',
  // What T may be.
  dtypes: ['float32'],
  attributes: ${literal(attributes)},
  inputs: [${inputs.map((input) => `{ name: '${input}', dims: 'any' }`).join(', ')}],
  outputs: ['y'],
  infer: ({ inputs: [${x}] }) => [{ dtype: ${x}.dtype, dims: ${x}.dims }],
  // What is right, in float64: everything else is compared with it.
  reference: ({ attrs, inputs: [${inputs.join(', ')}] }) => [${x}.values.map((value, i) => value * ${k}${others.map((other) => ` + ${other}.values[i]`).join('')})],
${template === 'expression' ? expressionPart(facts, k) : kernelPart(facts, k)}
  tolerance: { float32: { ulps: 4, absolute: 1e-6 } },
});

export default definePlugin({ name: '${name}', version: '0.1.0', ops: [op] });
`;
}

function expressionPart({ inputs }: TemplateFacts, k: string): string {
  const [x = 'x', ...others] = inputs;
  const sum = others.reduce((left, right) => `formula.add(${left}, ${right})`, `formula.mul(${x}, ${k})`);
  return `  // One formula is enough for an elementwise op: it fuses into its neighbours and runs on every backend.
  expression: ({ attrs, inputs: [${inputs.join(', ')}] }) => ${sum},`;
}

function kernelPart({ inputs }: TemplateFacts, k: string): string {
  const [x = 'x', ...others] = inputs;
  const decomposed = others.reduce((left, right) => `graph.op('Add', [${left}, ${right}])`, `graph.op('Mul', [${x}, graph.constant(graph.type(${x}).dtype, [], [${k}])])`);
  return `  // In standard ONNX ops: runs on every backend.
  decompose({ attrs, graph }) {
    const [${inputs.join(', ')}] = graph.inputs;
    return ${decomposed};
  },
  // For webgpu: buffers have the names of the inputs and outputs, \`i\` is the invocation. The tuner chooses among the tiles.
  kernels: [
    {
      dtypes: ['float32'],
      tiles: [{ block: 64 }, { block: 256 }],
      emit: ({ attrs, outputs: [y], tile }) => ({
        workgroupSize: tile.block,
        threads: elementCount(y.dims),
        body: \`y[i] = ${x}[i] * f32(\${${k}})${others.map((other) => ` + ${other}[i]`).join('')};\`,
      }),
    },
  ],`;
}

function testSource({ attributes, inputs }: TemplateFacts): string {
  const factor = factorOf(attributes);
  const attrs = Object.fromEntries(Object.entries(attributes).map(([name, spec]) => [name, spec.default ?? (spec.type === 'string' ? 'a' : spec.type === 'ints' || spec.type === 'floats' ? [] : 1)]));
  if (factor !== undefined) attrs[factor] = 2;
  const k = factor === undefined ? 1 : 2;
  const values = [1, 2, 3].map((value) => value * k + (inputs.length - 1) * value);
  return `import assert from 'node:assert/strict';
import { test } from 'node:test';
import plugin from './index.js';

// Examples that you worked out by hand; \`tsrt-bench plugin test .\` does the rest.
test('the reference', () => {
  const [op] = plugin.ops;
  const x = { dtype: 'float32', dims: [3], values: Float64Array.of(1, 2, 3) };
  const [y] = op.reference({ attrs: ${literal(attrs)}, inputs: [${inputs.map(() => 'x').join(', ')}], outputs: [x] });
  assert.deepEqual([...y], ${literal(values)});
});
`;
}

function readme({ name, domain, op }: TemplateFacts): string {
  return `# ${name}

A plugin for tsrt-bench: the op \`${domain}.${op}\`.

\`\`\`sh
npx tsrt-bench plugin test .                      # random inputs, canaries, every route against the reference
npx tsrt-bench inspect model.onnx --plugin .      # what it gives, what is missing
npx tsrt-bench run suite --plugin .               # measured, beside everything else
\`\`\`
`;
}
