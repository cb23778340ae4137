import { defineEscapes } from './suite/escapes.ts';

defineEscapes('runc');
