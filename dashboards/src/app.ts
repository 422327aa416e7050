import { mount } from 'svelte';
import App from './App.svelte';

function begin(): void {
  const target = document.getElementById('app');
  if (!target) throw new Error('index.html has no #app');
  mount(App, { target });
}

// The scripts may be there before the page is.
if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', begin);
else begin();
