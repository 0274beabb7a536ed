/**
 * What a plugin's backends, datasets and reporters give, held to their contracts before anything counts by it: a batch that does not say
 * how many samples it holds would otherwise be compared in none of them, and pass for exact.
 */
import type { Availability, Backend, Session, Unsupported } from './backends/backend.ts';
import type { Engine } from './engine/engine.ts';
import { inPlugin, pluginError, TsrtError } from './errors.ts';
import { formatType } from './ir/tensor.ts';
import { nearest } from './nearest.ts';
import { passes } from './plugin-guard.ts';
import type { Reporter } from './report/reporter.ts';
import type { Batch, Dataset, DatasetRequest, DatasetSource } from './suite/source.ts';

type ImageFolder = Awaited<ReturnType<NonNullable<DatasetSource['images']>>>;

const FOLDER_KEYS = ['images', 'labelSource', 'notices'] satisfies readonly (keyof ImageFolder)[];
const IMAGE_KEYS = ['name', 'path', 'label'] satisfies readonly (keyof ImageFolder['images'][number])[];
const LABEL_SOURCES = ['labels file', 'folder names', 'file names', 'none'] satisfies readonly ImageFolder['labelSource'][];

/** Mistakes that an error names; a list of pictures has as many as it has pictures. */
const NAMED = 5;

type Refuse = (what: string, mistakes: readonly string[]) => void;

/** Refuses what a part gives where it has mistakes. */
function refusing(kind: 'backend' | 'dataset', name: string, plugin: string): Refuse {
  return (what, mistakes) => {
    if (mistakes.length === 0) return;
    const more = mistakes.length > NAMED ? [`and ${mistakes.length - NAMED} more`] : [];
    throw new TsrtError('PLUGIN_FAILED', `what ${what} of ${kind} ${name} gives has mistakes`, {
      plugin,
      details: [...mistakes.slice(0, NAMED), ...more],
      fix: `mend the plugin: docs/plugins.md says what a ${kind} gives, \`tsrt-bench plugin test\` checks it`,
    });
  };
}

/** Methods whose answers the harness goes by, and what is wrong with one. */
const BACKEND_ANSWERS = { probe: availabilityMistakes, supports: supportMistakes, build: engineMistakes, load: sessionMistakes } as const;

const isChecked = (key: PropertyKey): key is keyof typeof BACKEND_ANSWERS => Object.hasOwn(BACKEND_ANSWERS, key);

/** The backend, with every answer that the harness goes by checked. */
export function checkedBackend(backend: Backend, plugin: string): Backend {
  const refuse = refusing('backend', backend.name, plugin);
  return new Proxy({} as Backend, {
    has: (_, key) => Reflect.has(backend, key),
    get(_, key) {
      const method: unknown = Reflect.get(backend, key, backend);
      if (typeof method !== 'function') return method;
      return async (...parameters: unknown[]): Promise<unknown> => {
        const answer: unknown = await (method as (...p: unknown[]) => unknown).apply(backend, parameters);
        if (isChecked(key)) refuse(`${key}()`, BACKEND_ANSWERS[key](answer as never));
        return answer;
      };
    },
  });
}

/** The dataset, with every answer checked. */
export function checkedDataset(source: DatasetSource, plugin: string): DatasetSource {
  const { name, description } = source;
  const refuse = refusing('dataset', name, plugin);
  return {
    name,
    description,
    ...(source.images && {
      async images(folder, options) {
        const found = await source.images!(folder, options);
        refuse('images()', folderMistakes(found));
        return found;
      },
    }),
    ...(source.open && {
      async open(request) {
        const dataset = await source.open!(request);
        refuse('open()', datasetMistakes(dataset));
        return checkedBatches(dataset, request, refuse, (error) => (passes(error) ? error : pluginError(plugin, `dataset ${name}.batches`, error)));
      },
    }),
  };
}

/** The format, which must give text. */
export function checkedReporter(reporter: Reporter, plugin: string): Reporter {
  const { name, description, fileExtension } = reporter;
  const checked = (text: unknown): string => {
    if (typeof text === 'string') return text;
    throw new TsrtError('PLUGIN_FAILED', `report format ${name}.render gives ${kindOf(text)}, not text`, {
      plugin,
      fix: 'return a string, or a promise of one: `tsrt-bench plugin test` checks it',
    });
  };
  const render: Reporter['render'] = (input) => {
    const text = inPlugin(plugin, `report format ${name}.render`, () => reporter.render(input));
    return text instanceof Promise ? text.then(checked) : checked(text);
  };
  return { name, description, fileExtension, render };
}

function checkedBatches(dataset: Dataset, request: DatasetRequest, refuse: Refuse, named: (error: unknown) => unknown): Dataset {
  const batches: Dataset['batches'] = async function* (signal) {
    let samples = 0;
    try {
      for await (const batch of dataset.batches(signal)) {
        refuse('batches()', batchMistakes(batch, request));
        samples += batch.count;
        yield batch;
      }
    } catch (error) {
      throw named(error);
    }
    const left = dataset.skipped.length;
    if (samples + left !== dataset.size) refuse('batches()', [`size: it says that it holds ${dataset.size} samples, and yields ${samples}${left > 0 ? ` and skips ${left}` : ''}`]);
  };
  // What a dataset has skipped is known once it was read: its own value, asked for anew.
  return new Proxy(dataset, { get: (target, key) => (key === 'batches' ? batches : Reflect.get(target, key, target)) });
}

function availabilityMistakes(found: Availability): string[] {
  if (!isObject(found)) return [`expected { status, … }, found ${kindOf(found)}`];
  switch (found.status) {
    case 'available':
      return [
        ...textMistakes(found.version, 'version'),
        ...listMistakes(found.devices, 'devices', (device, place) =>
          isObject(device) ? (['slug', 'kind', 'description'] as const).flatMap((key) => textMistakes(device[key], `${place}.${key}`)) : [`${place}: expected a device, found ${kindOf(device)}`],
        ),
      ];
    case 'unavailable':
      return [...textMistakes(found.reason, 'reason'), ...textMistakes(found.fix, 'fix')];
    default:
      return [`status: ${shown((found as { status?: unknown }).status)} is neither 'available' nor 'unavailable'`];
  }
}

function supportMistakes(found: readonly Unsupported[]): string[] {
  return listMistakes(found, 'reasons', (reason, place) =>
    isObject(reason) ? (['node', 'op', 'reason'] as const).flatMap((key) => textMistakes(reason[key], `${place}.${key}`)) : [`${place}: expected { node, op, reason }, found ${kindOf(reason)}`],
  );
}

function engineMistakes(found: Engine): string[] {
  if (!isObject(found)) return [`expected an engine, found ${kindOf(found)}`];
  return [...(isObject(found.header) ? [] : [`header: expected an object, found ${kindOf(found.header)}`]), ...(found.parts instanceof Map ? [] : [`parts: expected a Map, found ${kindOf(found.parts)}`])];
}

function sessionMistakes(found: Session): string[] {
  if (!isObject(found)) return [`expected a session, found ${kindOf(found)}`];
  const methods = (['run', 'prepare', 'observeMemory', 'dispose'] as const).flatMap((key) => (typeof found[key] === 'function' ? [] : [`${key}: expected a function, found ${kindOf(found[key])}`]));
  const lists = (['inputs', 'outputs'] as const).flatMap((key) => (Array.isArray(found[key]) ? [] : [`${key}: expected a list of bindings, found ${kindOf(found[key])}`]));
  const most = Number.isSafeInteger(found.maxInFlight) && found.maxInFlight > 0 ? [] : [`maxInFlight: expected a number of 1 or more, found ${shown(found.maxInFlight)}`];
  return [...methods, ...lists, ...most, ...(isObject(found.memory) ? [] : [`memory: expected an object, found ${kindOf(found.memory)}`])];
}

function folderMistakes(found: ImageFolder): string[] {
  if (!isObject(found)) return [`expected { ${FOLDER_KEYS.join(', ')} }, found ${kindOf(found)}`];
  const source = LABEL_SOURCES.includes(found.labelSource) ? [] : [`labelSource: ${shown(found.labelSource)} is not one of ${LABEL_SOURCES.join(', ')}`];
  return [...unknownKeys(found, FOLDER_KEYS, ''), ...listMistakes(found.images, 'images', imageMistakes), ...source, ...listMistakes(found.notices, 'notices', textMistakes)];
}

function imageMistakes(image: ImageFolder['images'][number], place: string): string[] {
  if (!isObject(image)) return [`${place}: expected { ${IMAGE_KEYS.join(', ')} }, found ${kindOf(image)}`];
  return [...unknownKeys(image, IMAGE_KEYS, `${place}.`), ...textMistakes(image.name, `${place}.name`), ...textMistakes(image.path, `${place}.path`), ...labelMistakes(image.label, `${place}.label`)];
}

function datasetMistakes(dataset: Dataset): string[] {
  if (!isObject(dataset)) return [`expected a dataset, found ${kindOf(dataset)}`];
  const { description, sha256, size, labelled, notices, skipped, batches } = dataset;
  return [
    ...textMistakes(description, 'description'),
    ...(sha256 === undefined ? [] : textMistakes(sha256, 'sha256')),
    ...countMistakes(size, 'size'),
    ...countMistakes(labelled, 'labelled'),
    ...listMistakes(notices, 'notices', textMistakes),
    ...listMistakes(skipped, 'skipped', textMistakes),
    ...(typeof batches === 'function' ? [] : [`batches: expected a function, found ${kindOf(batches)}`]),
  ];
}

function batchMistakes(batch: Batch, { bindings, batch: most, classes }: DatasetRequest): string[] {
  if (!isObject(batch) || !isObject(batch.inputs)) return ['a batch has no inputs'];
  const { inputs, count, labels, names } = batch;
  const tensors = bindings.flatMap((binding) => {
    const tensor = inputs[binding.name];
    if (isObject(tensor) && Array.isArray(tensor.dims) && tensor.data instanceof Uint8Array && formatType(tensor) === formatType(binding)) return [];
    const found = !isObject(tensor) ? kindOf(tensor) : Array.isArray(tensor.dims) && tensor.data instanceof Uint8Array ? formatType(tensor) : 'no { dtype, dims, data } with bytes as data';
    return [`inputs.${binding.name}: the model takes ${formatType(binding)}, found ${found}`];
  });
  if (!Number.isInteger(count) || count < 1 || count > most) return [...tensors, `count: expected a number from 1 to ${most}, found ${shown(count)}`];
  const lengths = Object.entries({ labels, names }).flatMap(([key, list]) => (Array.isArray(list) && list.length === count ? [] : [`${key}: expected one for each of the ${count} samples, found ${Array.isArray(list) ? list.length : kindOf(list)}`]));
  if (lengths.length > 0) return [...tensors, ...lengths];
  return [...tensors, ...labels.flatMap((label, index) => labelMistakes(label, `labels[${index}]`, classes))];
}

function labelMistakes(label: unknown, place: string, classes = Number.POSITIVE_INFINITY): string[] {
  if (label === undefined || (Number.isSafeInteger(label) && (label as number) >= 0 && (label as number) < classes)) return [];
  const beyond = Number.isSafeInteger(label) && (label as number) >= classes;
  return [`${place}: ${shown(label)} is ${beyond ? `beyond the model's ${classes} classes` : 'not a class index'}`];
}

function countMistakes(value: unknown, place: string): string[] {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? [] : [`${place}: expected a count, found ${shown(value)}`];
}

function textMistakes(value: unknown, place: string): string[] {
  return typeof value === 'string' ? [] : [`${place}: expected a string, found ${shown(value)}`];
}

function listMistakes<T>(list: readonly T[], place: string, mistakesOf: (entry: T, place: string) => string[]): string[] {
  if (!Array.isArray(list)) return [`${place}: expected a list, found ${kindOf(list)}`];
  return (list as readonly T[]).flatMap((entry, index) => mistakesOf(entry, `${place}[${index}]`));
}

function unknownKeys(value: object, known: readonly string[], place: string): string[] {
  return Object.keys(value)
    .filter((key) => !known.includes(key))
    .map((key) => {
      const guess = nearest(key, known);
      return `${place}${key}: unknown key; ${guess === undefined ? `known: ${known.join(', ')}` : `did you mean '${guess}'?`}`;
    });
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  return Array.isArray(value) ? 'a list' : typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

function shown(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? JSON.stringify(value) : kindOf(value);
}
