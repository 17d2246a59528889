package kube

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// jobProblem says why a Job has not done its work: it has given up, its pods fail or can't start, or it may not
// make any. A Job is tried again, so a pod that fails is not the end.
func jobProblem(v *view, job *unstructured.Unstructured) *Problem {
	pod := worstPod(v, job, "")
	if c := trueCondition(job, "Failed"); c != nil {
		return failedJob(job, c, pod)
	}
	if suspended, _, _ := unstructured.NestedBool(job.Object, "spec", "suspend"); suspended {
		return &Problem{Ref: RefOf(job), Reason: "Suspended", Message: "it is suspended", Final: true,
			Hint: fmt.Sprintf("whoever suspended it has to let it go on: kubectl -n %s patch job %s -p '{\"spec\":{\"suspend\":false}}'", job.GetNamespace(), job.GetName())}
	}
	if p := refused(v, job); p != nil {
		return p
	}
	return pod
}

// failedJob is a Job that has given up, with the last words of the pod that failed.
func failedJob(job *unstructured.Unstructured, condition map[string]any, pod *Problem) *Problem {
	p := &Problem{Ref: RefOf(job), Final: true,
		Hint: fmt.Sprintf("kubectl -n %s describe job %s shows its pods and their end; running this again runs it again", job.GetNamespace(), job.GetName())}
	p.Reason, _ = condition["reason"].(string)
	p.Message, _ = condition["message"].(string)
	if pod == nil {
		return p
	}
	p.Message += "; " + pod.String()
	p.Hint, p.container, p.pod, p.version = pod.Hint, pod.container, pod.Ref, pod.version
	p.Evidence = pod.Evidence
	return p
}
