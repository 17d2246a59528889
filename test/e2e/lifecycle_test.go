package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// changedImage is the app's image under another tag, with other contents: the lab has it, and
// PWDEPLOY_E2E_IMAGE names one elsewhere.
func changedImage() string {
	if name := os.Getenv("PWDEPLOY_E2E_IMAGE"); name != "" {
		return name
	}
	return "pw/crudservice:e2e"
}

// cleanUp takes everything away when a test ends, however it ends.
func cleanUp(t *testing.T, args ...string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		out, err := command(ctx, append([]string{"down", "--yes", "--delete-data"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("clean up: %v\n%s", err, out)
		}
	})
}

// TestFromEmptyToServedAndBack is the main job: up, status, up again, a changed image, down, and the
// cluster is as it was.
func TestFromEmptyToServedAndBack(t *testing.T) {
	empty := snap(t, false)
	must(t, 3, "status")
	cleanUp(t)

	first := up(t)
	if !first.Changed {
		t.Error("the first up changed nothing")
	}
	wantAnswer(t, first, http.MethodPost, "/pw/e2e/value", `{"key":"e2e","value":"value"}`)
	wantAnswer(t, first, http.MethodGet, "/pw/e2e", `"value"`)
	if r := must(t, 0, "status"); !strings.Contains(r.stdout, "Healthy") {
		t.Errorf("status does not say Healthy")
	}

	before := snap(t, true)
	if again := up(t); again.Changed {
		t.Error("the second up changed something")
	}
	same(t, "up again", before, snap(t, true))

	changeImage(t, first)

	must(t, 0, "down", "--yes", "--delete-data")
	same(t, "after down", empty, snap(t, false))
	if r := must(t, 0, "down", "--yes"); !strings.Contains(r.stdout, "Nothing") {
		t.Errorf("the second down says %q", r.stdout)
	}
}

// changeImage rolls to another image.
func changeImage(t *testing.T, u upResult) {
	up(t, "--image", changedImage())
	d := deployment(t, "pw-crud")
	if got := d.Spec.Template.Spec.Containers[0].Image; got != changedImage() {
		t.Errorf("the Deployment runs %s", got)
	}
	wantAnswer(t, u, http.MethodGet, "/pw/e2e", `"value"`)
}

func deployment(t *testing.T, namespace string) *appsv1.Deployment {
	t.Helper()
	d, err := shared.client.AppsV1().Deployments(namespace).Get(t.Context(), "pw-crud", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestImageThatIsNotThere fails early, says why, and leaves the old version serving.
func TestImageThatIsNotThere(t *testing.T) {
	cleanUp(t)
	u := up(t)
	wantAnswer(t, u, http.MethodPost, "/pw/e2e/value", `{"key":"e2e","value":"value"}`)
	begin := time.Now()
	r := must(t, 1, "up", "--image", "registry.invalid/pw/crudservice:none", "--timeout", "4m")
	if time.Since(begin) > time.Minute {
		t.Errorf("it took %s to give up", time.Since(begin))
	}
	for _, want := range []string{"Deployment pw-crud/pw-crud", "ImagePullBackOff", "registry.invalid/pw/crudservice:none", "Hint:", "pwdeploy up again is safe"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("the error does not say %q", want)
		}
	}
	wantAnswer(t, u, http.MethodGet, "/pw/e2e", `"value"`)
	must(t, 3, "status")
	up(t)
}

// persistent is a configuration with volumes for Redis, and with every write on disk before it is acknowledged, for
// clusters whose profile has neither.
func persistent(t *testing.T) string {
	t.Helper()
	return configuration(t, map[string]string{
		"pwdeploy.yaml": "redis:\n  chart:\n    values: [redis.yaml]\n",
		"redis.yaml": `
commonConfiguration: |-
  appendonly yes
  appendfsync always
  save ""
master: {persistence: {enabled: true, size: 100Mi}}
replica: {persistence: {enabled: true, size: 100Mi}}
`,
	})
}

// TestDataSurvivesDown: down keeps the volumes and the password, and the next up serves the old data.
func TestDataSurvivesDown(t *testing.T) {
	config := persistent(t)
	cleanUp(t)
	empty := snap(t, false)
	u := up(t, "--config", config)
	wantAnswer(t, u, http.MethodPost, "/pw/kept/value", `{"key":"kept","value":"value"}`)
	password := redisPassword(t)
	must(t, 0, "down", "--yes", "--config", config)
	claims, err := shared.client.CoreV1().PersistentVolumeClaims("redis").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(claims.Items) != 2 {
		t.Fatalf("%d claims are left, %v", len(claims.Items), err)
	}
	u = up(t, "--config", config)
	if string(redisPassword(t)) != string(password) {
		t.Error("the password changed")
	}
	wantAnswer(t, u, http.MethodGet, "/pw/kept", `"value"`)
	must(t, 0, "down", "--yes", "--delete-data", "--config", config)
	waitForVolumes(t)
	same(t, "after down --delete-data", empty, snap(t, false))
}

// waitForVolumes waits for the provisioner, which deletes volumes after their claims are gone.
func waitForVolumes(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		list, err := shared.client.CoreV1().PersistentVolumes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) == 0 {
			return
		}
	}
}

func redisPassword(t *testing.T) []byte {
	t.Helper()
	secret, err := shared.client.CoreV1().Secrets("redis").Get(t.Context(), "pwdeploy-redis", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return secret.Data["redis-password"]
}

// TestInterrupted: Ctrl-C ends with 130 and a word on what is left, and up goes on from there.
func TestInterrupted(t *testing.T) {
	cleanUp(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	cmd := command(ctx, "up")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	r := finish(t, cmd)
	if r.code != 130 || !strings.Contains(r.stderr, "Interrupted") {
		t.Errorf("exit %d", r.code)
	}
	up(t)
}

// TestOthersAreLeftAlone: a second deployment uses the first one's controller, and neither its down nor
// somebody else's objects in its namespaces are touched by the other.
func TestOthersAreLeftAlone(t *testing.T) {
	cleanUp(t)
	up(t)
	config := filepath.Join(t.TempDir(), "pwdeploy.yaml")
	text := "namespace: second\nhost: second.pw.test\nredis: {namespace: second-redis}\ningress: {namespace: second-ingress}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cleanUp(t, "--config", config)
	before := snap(t, true)

	second := up(t, "--config", config)
	for _, c := range second.Components {
		if c.Name == "ingress-nginx" && c.Action != "reused" {
			t.Errorf("the controller was %s", c.Action)
		}
	}
	must(t, 0, "status", "--config", config)
	foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "not-ours", Namespace: "second"}}
	if _, err := shared.client.CoreV1().ConfigMaps("second").Create(t.Context(), foreign, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r := must(t, 0, "down", "--yes", "--delete-data", "--config", config)
	if !strings.Contains(r.stdout, "ConfigMap second/not-ours") {
		t.Errorf("down does not say why the namespace stays")
	}
	if err := shared.client.CoreV1().ConfigMaps("second").Delete(t.Context(), "not-ours", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	must(t, 0, "down", "--yes", "--delete-data", "--config", config)
	same(t, "the first deployment", before, snap(t, true))
	must(t, 0, "status")
}
