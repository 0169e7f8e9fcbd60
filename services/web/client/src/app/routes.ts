import type { Routes } from '@angular/router';
import { OverviewPage } from './pages/overview';

export const routes: Routes = [
  { path: '', component: OverviewPage, pathMatch: 'full' },
  {
    path: 'documents',
    loadComponent: () => import('./pages/documents').then((page) => page.DocumentsPage),
  },
  {
    path: 'classify',
    loadComponent: () => import('./pages/classify').then((page) => page.ClassifyPage),
  },
  { path: 'learn', loadComponent: () => import('./pages/learn').then((page) => page.LearnPage) },
  {
    path: 'monitor',
    loadComponent: () => import('./pages/monitor').then((page) => page.MonitorPage),
  },
  { path: '**', redirectTo: '' },
];
