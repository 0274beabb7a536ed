/** The builders by name. A builder's version is part of its cache key: raise it when what it writes changes. */
import type { BuilderName } from '../schema.ts';
import { buildBertBase } from './bert.ts';
import { buildDeformNetwork, buildRotaryAttention, buildSnakeVocoder } from './custom-ops.ts';
import { buildMobilenetv2 } from './mobilenetv2.ts';
import type { OnnxPlan } from './onnx-writer.ts';
import { buildResnet50 } from './resnet50.ts';
import { buildSmoke } from './smoke.ts';
import { buildVitB16 } from './vit.ts';

export interface BuilderOptions {
  readonly seed: number;
  /** Classes of a classifier; undefined: the architecture's own. */
  readonly classes: number | undefined;
}

export interface ModelBuilder {
  readonly version: number;
  plan(options: BuilderOptions): OnnxPlan;
}

export const BUILDERS: Readonly<Record<BuilderName, ModelBuilder>> = {
  resnet50: { version: 1, plan: ({ seed, classes = 1000 }) => buildResnet50({ seed, classes }) },
  mobilenetv2: { version: 1, plan: ({ seed, classes = 1001 }) => buildMobilenetv2({ seed, classes }) },
  'bert-base': { version: 1, plan: ({ seed }) => buildBertBase({ seed }) },
  'vit-b16': { version: 1, plan: ({ seed, classes = 1000 }) => buildVitB16({ seed, classes }) },
  'rotary-attention': { version: 1, plan: ({ seed }) => buildRotaryAttention({ seed }) },
  'deform-network': { version: 1, plan: ({ seed, classes = 10 }) => buildDeformNetwork({ seed, classes }) },
  'snake-vocoder': { version: 1, plan: ({ seed }) => buildSnakeVocoder({ seed }) },
  smoke: { version: 1, plan: ({ seed, classes = 10 }) => buildSmoke({ seed, classes }) },
};
