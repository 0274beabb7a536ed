/** `plugin new`: a working plugin in a folder of its own, its op taken from a model where one is given. */
import { readdir } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { TsrtError } from '../errors.ts';
import type { AttributeSpec } from '../ir/custom.ts';
import { customAttributes } from '../onnx/custom.ts';
import { readModel, type OnnxNode } from '../onnx/model.ts';
import { TOOL_VERSION } from '../version.ts';
import { inModelFile, readModelFile } from './model-file.ts';
import { writeText } from './output.ts';
import { pluginFiles, type Template } from './plugin-template.ts';

export interface NewPluginRequest {
  readonly name: string;
  /** `com.acme.Scale`; undefined: an op of the plugin's name in the domain `local`. */
  readonly op: string | undefined;
  /** A model that has the op: its inputs and attributes are taken over. */
  readonly from: string | undefined;
  readonly template: Template;
  readonly cwd: string;
}

export interface NewPlugin {
  readonly folder: string;
  readonly op: string;
  readonly files: readonly string[];
}

/** Writes the files into a new folder. Throws USAGE for a name that is none and for a folder that holds something, RESULTS_UNWRITABLE. */
export async function newPlugin(request: NewPluginRequest): Promise<NewPlugin> {
  const { name, template, cwd, from } = request;
  if (!/^[a-z][a-z0-9-]*$/.test(name)) {
    throw new TsrtError('USAGE', `'${name}' is not a valid plugin name: use lower-case letters, digits and dashes, with a letter first`, { fix: 'for example: tsrt-bench plugin new fast-gelu' });
  }
  const { domain, op } = splitOp(request.op ?? `local.${pascal(name)}`);
  const facts = from === undefined ? PLAIN : await factsFrom(from, domain, op);
  const folder = resolve(cwd, name);
  const there = await readdir(folder).catch(() => []);
  if (there.length > 0) throw new TsrtError('USAGE', `the folder ${name} already exists and is not empty`, { place: folder, fix: 'choose another name, or move it away' });
  const files = pluginFiles({ name, domain, op, template, toolVersion: TOOL_VERSION, ...facts });
  for (const [file, content] of Object.entries(files)) await writeText(join(folder, file), content);
  return { folder, op: `${domain}.${op}`, files: Object.keys(files) };
}

interface OpFacts {
  readonly attributes: Readonly<Record<string, AttributeSpec>>;
  readonly inputs: readonly string[];
}

const PLAIN: OpFacts = { attributes: { scale: { type: 'float', default: 1, min: 0.25, max: 4 } }, inputs: ['x'] };

function splitOp(title: string): { readonly domain: string; readonly op: string } {
  const at = title.search(/(::|[.:])[A-Za-z_]\w*$/);
  const domain = title.slice(0, Math.max(0, at));
  const op = title.slice(at).replace(/^(::|[.:])/, '');
  if (at < 1 || !/^[A-Za-z_]\w*$/.test(op)) throw new TsrtError('USAGE', `--op takes DOMAIN.OP, found '${title}'`, { fix: 'for example: --op com.acme.Scale' });
  return { domain, op };
}

function pascal(name: string): string {
  return name.split('-').map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('');
}

/** The op as the model's first node of its kind has it. */
async function factsFrom(file: string, domain: string, op: string): Promise<OpFacts> {
  const bytes = await readModelFile(file);
  const model = await inModelFile(file, () => readModel(bytes, { folder: dirname(file) }));
  const node = model.nodes.find((candidate) => candidate.domain === domain && candidate.opType === op);
  if (!node) {
    const foreign = [...new Set(model.nodes.filter((candidate) => candidate.domain !== '').map((candidate) => `${candidate.domain}.${candidate.opType}`))];
    throw new TsrtError('USAGE', `the model has no node of ${domain}.${op}`, { place: file, fix: foreign.length > 0 ? `it has ${foreign.join(', ')}` : 'it has standard ops only' });
  }
  if (node.outputs.length !== 1) throw new TsrtError('USAGE', `${domain}.${op} has ${node.outputs.length} outputs, but the templates have one`, { place: file, fix: 'leave out --from, and write the op by hand: see docs/plugins.md' });
  return { attributes: specsOf(node), inputs: inputNames(node) };
}

/** Attributes with the node's value as default: the author knows better, and finds all of them named. */
function specsOf(node: OnnxNode): Record<string, AttributeSpec> {
  return Object.fromEntries(
    customAttributes(node).flatMap((attribute): [string, AttributeSpec][] => {
      const { name } = attribute;
      switch (attribute.kind) {
        case 'int':
        case 'float': {
          const value = attribute.kind === 'float' ? Number(attribute.value.toPrecision(7)) : attribute.value;
          return [[name, { type: attribute.kind, default: value, min: Math.min(0, value), max: Math.max(1, 2 * value) }]];
        }
        case 'string':
          return [[name, { type: 'string', default: attribute.value }]];
        case 'ints':
        case 'floats':
          return [[name, { type: attribute.kind, default: attribute.value }]];
        default:
          return [];
      }
    }),
  );
}

const NAMES = ['x', 'a', 'b', 'c', 'd', 'e'] as const;

function inputNames(node: OnnxNode): readonly string[] {
  return node.inputs.map((_, index) => NAMES[index] ?? `input${index}`);
}
